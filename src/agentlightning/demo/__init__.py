"""The offline story: an ordinary agent, its tasks, and a simulated model to try them on."""

"""The run: what a config says becomes rollouts, decisions, a measured result and files."""

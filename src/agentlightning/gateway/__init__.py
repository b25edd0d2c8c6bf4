"""Our own model endpoint in every dialect, for agents in other processes and languages."""

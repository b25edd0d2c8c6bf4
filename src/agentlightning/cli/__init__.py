"""The `agentlightning` command (also `agl`)."""

"""Trajectories on their way out, one format a file: derived views of the store, never its truth."""

"""Engines hold weights: they sample the answers of a trainable agent and learn from samples."""

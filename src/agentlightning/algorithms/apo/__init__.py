"""Automatic prompt optimisation: instruction text that scores better, found by reflecting on what went wrong."""

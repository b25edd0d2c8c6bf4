"""The one seam: every model call of a rollout passes here to be steered and recorded, and nothing else is touched."""

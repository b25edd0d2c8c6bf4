"""`isolation: process`: each rollout runs in a worker process, which is ended when the rollout hangs and replaced."""

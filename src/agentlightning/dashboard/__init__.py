"""A run in the browser: pages over a store, live, and a place where people say how good rollouts were.

It reads the store and writes feedback into it; no run needs to be alive for it.
"""

"""Logs of agents that ran without us become trajectories of split live, to be judged, compared and learned from."""

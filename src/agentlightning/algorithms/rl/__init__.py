"""Reinforcement learning on whatever an agent does: groups of rollouts, credit for each answer, weights that follow."""

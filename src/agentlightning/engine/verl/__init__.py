"""Learning handed over to verl: its job runs in an environment of its own, its rollouts run here."""

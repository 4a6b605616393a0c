"""A run's folder: its config, checkpoints, lock, log and origin, written and read."""

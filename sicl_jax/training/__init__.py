"""The training loop, its checkpoints and its logs; knows no method by name."""

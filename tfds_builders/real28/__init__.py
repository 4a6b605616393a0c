"""Real28: a TFDS builder package."""

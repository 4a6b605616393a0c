"""Market-1501: a TFDS builder package."""

"""RegDB: a TFDS builder package."""

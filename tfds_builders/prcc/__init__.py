"""PRCC: a TFDS builder package."""

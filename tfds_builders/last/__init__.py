"""LaST: a TFDS builder package."""

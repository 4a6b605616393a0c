"""LLCM: a TFDS builder package."""

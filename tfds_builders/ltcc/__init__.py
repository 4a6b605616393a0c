"""LTCC: a TFDS builder package."""

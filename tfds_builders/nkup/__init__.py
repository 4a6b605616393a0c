"""NKUP: a TFDS builder package."""

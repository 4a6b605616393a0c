"""MSMT17: a TFDS builder package."""

"""CCVID: a TFDS builder package."""

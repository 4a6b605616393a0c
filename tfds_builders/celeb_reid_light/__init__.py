"""Celeb-reID-light: a TFDS builder package."""

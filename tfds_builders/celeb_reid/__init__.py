"""Celeb-reID: a TFDS builder package."""

"""SYSU-MM01: a TFDS builder package."""

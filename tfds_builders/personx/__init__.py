"""PersonX: a TFDS builder package."""

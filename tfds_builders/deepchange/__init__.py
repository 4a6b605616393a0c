"""DeepChange: a TFDS builder package."""

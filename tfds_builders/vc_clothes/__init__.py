"""VC-Clothes: a TFDS builder package."""

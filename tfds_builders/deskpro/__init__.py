"""DeskPro: a TFDS builder package."""

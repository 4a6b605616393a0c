"""Any folder of people: a TFDS builder package."""

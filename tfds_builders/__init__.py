"""TFDS builder packages: one folder per data set, and `reid`, the code they share."""

"""Silhouettes from images: the SCHP human parser, and a look at how good the masks are."""

"""Clothes-changing person re-identification without identity labels, in JAX."""

__version__ = "0.1.0"

"""LMBN alone: a light supervised baseline, and DeskPro's face teacher (arXiv 2101.10774)."""

from sicl_jax.methods.lmbn.method import Lmbn

__all__ = ["Lmbn"]

"""DeskPro: clothes shielded by attention, faces taught by restored ones (arXiv 2208.12023)."""

from sicl_jax.methods.deskpro.method import DeskPro

__all__ = ["DeskPro"]

"""CCLNet: visible-infrared re-identification with CLIP, without labels (ACM MM 2023)."""

from sicl_jax.methods.cclnet.method import CclNet

__all__ = ["CclNet"]

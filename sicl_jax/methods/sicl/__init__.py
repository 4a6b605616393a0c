"""SiCL: silhouette-driven contrastive learning (arXiv 2305.13600)."""

from sicl_jax.methods.sicl.method import Sicl

__all__ = ["Sicl"]

"""OSNet alone: a light supervised baseline (arXiv 1905.00953)."""

from sicl_jax.methods.osnet.method import Osnet

__all__ = ["Osnet"]

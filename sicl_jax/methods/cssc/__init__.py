"""CSSC: content and salient semantics collaboration (arXiv 2405.16597)."""

from sicl_jax.methods.cssc.method import Cssc

__all__ = ["Cssc"]

"""Cluster Contrast (arXiv 2103.11568)."""

from sicl_jax.methods.cluster_contrast.method import ClusterContrast

__all__ = ["ClusterContrast"]

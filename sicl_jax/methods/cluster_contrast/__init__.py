"""Cluster Contrast (arXiv 2103.11568)."""

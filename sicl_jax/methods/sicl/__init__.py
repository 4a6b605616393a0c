"""SiCL: silhouette-driven contrastive learning (arXiv 2305.13600)."""

"""Prepared data sets as arrays, pseudo-identity batches and augmentation."""

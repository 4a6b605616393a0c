"""What the builders of re-identification data sets share; knows nothing of `sicl_jax`."""

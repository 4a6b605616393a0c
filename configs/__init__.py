"""One file per experiment, each with `get_config()`; what they share is in `base`."""

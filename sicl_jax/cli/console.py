from sicl_jax.console import console, progress  # noqa: D100, F401 - goes when all import it there

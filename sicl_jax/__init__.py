"""Clothes-changing person re-identification without identity labels, in JAX."""

__version__ = "0.1.0"


def __getattr__(name: str):
    """`load`, imported when it is first asked for: JAX takes seconds, and `--help` needs none."""
    if name == "load":
        from sicl_jax.inference import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

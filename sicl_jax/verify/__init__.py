"""Recomputes golden numbers, those of the authors' published code, on the device in use.

One module per golden file, each with a function `check(golden)` that yields a
`Check` per quantity. The tests assert the verdicts of the same checkers.
"""

from sicl_jax.verify.checks import Check
from sicl_jax.verify.folder import FILES, GOLDEN, verify

__all__ = ["FILES", "GOLDEN", "Check", "verify"]

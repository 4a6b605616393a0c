"""Loops compiled to machine code by numba."""

import numba


def compiled(function, **options):
    """Compiles without the GIL, and keeps the result on disk where there is a place for it."""
    try:
        return numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # A read-only installation and no home: compiled anew in each process.
        return numba.njit(nogil=True, **options)(function)

"""Published methods behind one interface; `create` finds one by its config name."""

import importlib

import ml_collections

from sicl_jax.errors import UsageError
from sicl_jax.methods.base import Method

_MODULES = {"sicl": "sicl_jax.methods.sicl.method"}


def create(config: ml_collections.ConfigDict) -> Method:
    """The method that `config.method` names.

    Raises:
        UsageError: There is no such method.
    """
    if config.method not in _MODULES:
        known = ", ".join(sorted(_MODULES))
        raise UsageError(f"config.method: no method {config.method!r}; choose one of: {known}")
    return importlib.import_module(_MODULES[config.method]).create(config)

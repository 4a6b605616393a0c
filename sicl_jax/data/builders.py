"""The data sets that can be prepared, by name."""

import difflib
import importlib
import pkgutil

import tfds_builders
from sicl_jax.errors import UsageError

_SHARED_CODE = "reid"


def builder_names() -> list[str]:
    """Names of all builder packages."""
    names = (module.name for module in pkgutil.iter_modules(tfds_builders.__path__) if module.ispkg)
    return sorted(name for name in names if name != _SHARED_CODE)


def builder_class(name: str) -> type:
    """The TFDS builder of a data set.

    Raises:
        UsageError: there is none of that name.
    """
    known = builder_names()
    if name in known:
        return importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder").Builder
    if "duke" in name.lower():
        raise UsageError(
            "DukeMTMC was withdrawn by its authors and is not supported; use another data set"
        )
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise UsageError(f"no data set {name!r}; {hint}")


def builder_configs(name: str) -> list[str]:
    """Names of a builder's configs; empty if it has none."""
    return [config.name for config in builder_class(name).BUILDER_CONFIGS]

"""What a run was made with: versions, config, data, code."""

import functools
import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import jax
import ml_collections

import sicl_jax
from sicl_jax import config as configs

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def provenance(config: ml_collections.ConfigDict, fingerprint: str) -> dict[str, Any]:
    """Versions, device, config digest, data set fingerprint and git commit ('' outside a clone)."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "sicl_jax": sicl_jax.__version__,
        "python": platform.python_version(),
        **versions,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "config": configs.digest(config),
        "dataset": fingerprint,
        "git_commit": git_commit(),
    }


@functools.cache
def git_commit() -> str:
    """Commit of the checkout that the package runs from, or '' where it is installed."""
    folder = pathlib.Path(sicl_jax.__file__).parent.parent
    if not (folder / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()

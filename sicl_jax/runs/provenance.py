"""What a run was made with: versions, device, config, data, code."""

import functools
import importlib.metadata
import pathlib
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

import sicl_jax
from sicl_jax import config as configs
from sicl_jax import devices
from sicl_jax.runs.metrics import read_lines

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "scikit-learn")


def provenance(config: ml_collections.ConfigDict, fingerprint: str) -> dict[str, Any]:
    """Versions, device, config digest, data set fingerprint and git commit ('' outside a clone)."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "sicl_jax": sicl_jax.__version__,
        "python": platform.python_version(),
        **versions,
        "device": jax.devices()[0].device_kind,
        "devices": devices.mesh().size,
        "config": configs.digest(config),
        "dataset": fingerprint,
        "git_commit": git_commit(),
    }


@functools.cache
def git_commit() -> str:
    """Commit of the checkout that the package runs from, or '' where it is installed.

    It ends in `-dirty` where files that git knows differ from that commit.
    """
    folder = pathlib.Path(sicl_jax.__file__).parent.parent
    if not (folder / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, check=False
        )
    except OSError:  # There is no git.
        return ""
    return done.stdout.strip()


def changes(folder: pathlib.Path, facts: Mapping[str, Any]) -> list[str]:
    """`name: before -> now` of what differs from what the run was last carried out with.

    Args:
        folder: The workdir.
        facts: As `provenance` gives them.

    Raises:
        UserError: `metrics.jsonl` is damaged.
    """
    lines = [line for line in read_lines(folder) if line["kind"] in ("start", "resume", "extend")]
    before = lines[-1] if lines else {}
    both = facts.keys() & before.keys()
    return [f"{n}: {before[n]} -> {facts[n]}" for n in facts if n in both and facts[n] != before[n]]

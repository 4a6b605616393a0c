"""Whether two runs are the same, bit for bit."""

import json
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp

# Wall-clock times, and the commit of a checkout that others may be working on.
_NOT_COMPARED = {"seconds", "seconds_clustering", "seconds_training", "images_per_second"}
_NOT_COMPARED |= {"git_commit"}


def metrics(workdir: pathlib.Path) -> list[dict]:
    """The lines of `metrics.jsonl` without their times."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [
        {name: value for name, value in line.items() if name not in _NOT_COMPARED}
        for line in lines
        if line["kind"] != "resume"
    ]


def saved_state(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint by path."""
    with ocp.StandardCheckpointer() as reader:
        leaves = jax.tree_util.tree_leaves_with_path(reader.restore(folder.resolve() / "state"))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def steps(workdir: pathlib.Path, kind: str) -> list[int]:
    """Steps of the checkpoints kept, in order."""
    return sorted(int(path.name) for path in (workdir / "checkpoints" / kind).iterdir())


def assert_same_runs(workdir: pathlib.Path, reference: pathlib.Path) -> None:
    """Figures, and all arrays of the last and the best state."""
    assert metrics(workdir) == metrics(reference)
    for kind in ("latest", "best"):
        step = steps(reference, kind)[-1]
        assert steps(workdir, kind)[-1] == step
        found = saved_state(workdir / "checkpoints" / kind / str(step))
        wanted = saved_state(reference / "checkpoints" / kind / str(step))
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            assert array.dtype == found[name].dtype
            assert array.tobytes() == found[name].tobytes(), name

"""Batch statistics in parts: the same on four devices as on one, and nothing to send for them."""

import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sicl_jax import devices
from sicl_jax.models.batch_norm import BatchNorm

_DEVICES = 4


class TwoNorms(nnx.Module):
    """Two batch norms, as in a network, with something between that mixes channels."""

    def __init__(self, parts: int):
        self.first, self.second = BatchNorm(6, parts=parts), BatchNorm(6, parts=parts)

    def __call__(self, x):
        x = jax.nn.relu(self.first(x, train=True))
        return self.second(x[..., ::-1] + 0.5 * x, train=True)


def train(parts: int) -> tuple[dict[str, np.ndarray], int]:
    """Loss, gradients and running statistics on all devices here; and how often they talk."""
    rng = np.random.default_rng(0)
    x = devices.put_rows(rng.normal(1.0, 2.0, (16, 3, 2, 6)).astype(np.float32))
    weights = devices.put_rows(rng.normal(size=x.shape).astype(np.float32))
    graph, params, rest = nnx.split(TwoNorms(parts), nnx.Param, ...)

    def loss(params, rest, x, weights):
        model = nnx.merge(graph, params, rest, copy=True)
        return jnp.sum(model(x) * weights), nnx.state(model, nnx.BatchStat)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True), out_shardings=devices.replicated())
    program = step.lower(params, rest, x, weights).compile()
    found = jax.tree_util.tree_leaves_with_path(program(params, rest, x, weights))
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found}
    return arrays, len(re.findall(r" (?:all-|collective-|reduce-)[\w-]+\(", program.as_text()))


@pytest.fixture(scope="module")
def four_devices(tmp_path_factory):
    out = tmp_path_factory.mktemp("parts") / "out.npz"
    flags = f" --xla_force_host_platform_device_count={_DEVICES}"
    environment = os.environ | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + flags}
    subprocess.run([sys.executable, __file__, out], check=True, env=environment)
    with np.load(out) as archive:
        return dict(archive)


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_devices_do_not_decide_the_statistics(four_devices, parts):
    expected, talks = train(parts)
    assert talks == 0
    for name, array in expected.items():
        np.testing.assert_allclose(four_devices[f"{parts} {name}"], array, rtol=1e-4, atol=1e-5)


def test_devices_with_whole_parts_talk_once_a_step(four_devices):
    """Of gradients and of the running statistics, however many norms there are."""
    assert four_devices["4 talks"] == four_devices["8 talks"] == 1
    assert four_devices["1 talks"] > 1


if __name__ == "__main__":
    results = {}
    for parts in (1, 2, 4, 8):
        arrays, talks = train(parts)
        results |= {f"{parts} {name}": array for name, array in arrays.items()}
        results[f"{parts} talks"] = np.asarray(talks)
    np.savez(pathlib.Path(sys.argv[1]), **results)

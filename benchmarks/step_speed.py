"""The training step against the same in PyTorch; and what `train_step.py` measures.

    pip install -c constraints.txt '.[cpu,bench]'
    python benchmarks/step_speed.py --torch [--config sicl_demo] [--batch_size 64]
        [--config.FIELD=VALUE]...

Prints one JSON line. Both programs train the same network from the same weights on the same images
in memory, with all cores, and take turns in one run:

- `step`: this project's training call as the loop makes it, metrics fetched after every call;
- `torch`: the same step in plain PyTorch (`torch_programs.py`), augmentation and all;
- `torch_arithmetic`: that without its augmentation, on one batch that lies ready.
"""

import argparse
import dataclasses
import json
import statistics
import time

import jax
import jax.numpy as jnp
import networks
import numpy as np
import rates
from flax import nnx

from sicl_jax import config as configs
from sicl_jax import devices, methods
from sicl_jax.methods.embedder import columns_of
from sicl_jax.training import feeds, steps

_POOL = 4  # Batches of random images.


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch", action="store_true", required=True, help="against PyTorch")
    parser.add_argument("--config", default="sicl_demo")
    parser.add_argument("--batch_size", type=int, help="if not the config's")
    parser.add_argument("--images", type=int, default=2048, help="training images")
    parser.add_argument("--calls", type=int, default=8, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    arguments, overrides = parser.parse_known_args()
    if arguments.batch_size:
        overrides.append(f"--config.batch_size={arguments.batch_size}")
    print(json.dumps(against_torch(configs.load(arguments.config, overrides), arguments)))


def against_torch(config, arguments) -> dict:
    """Rates of both programs and their ratios."""
    import torch_programs  # Needs PyTorch, and `train_step.py` does not.

    method = methods.create(config)
    data = networks.random_split(method, arguments.images)
    run = Run(config, data, feeds.ResidentFeed)
    program = torch_programs.of_state(run.method, run.state, data)
    calls, number = arguments.calls, iter(range(10**9))

    def torch_seconds(**options):
        begin = time.perf_counter()
        for _ in range(calls):
            program.step(run.batches[next(number) % len(run.batches)], **options)
        return time.perf_counter() - begin

    work = {
        "step": lambda: run.seconds(calls, 1),
        "torch": torch_seconds,
        "torch_arithmetic": lambda: torch_seconds(ready=True),
    }
    rates.taking_turns(work, 1)  # Compiles.
    seconds = rates.taking_turns(work, arguments.rounds)
    images = calls * config.batch_size
    return {
        "benchmark": "step_speed",
        "device": jax.devices()[0].device_kind,
        "threads": torch_programs.threads(),
        "config": arguments.config,
        "image_size": tuple(config.data.image_size),
        "batch_size": config.batch_size,
        "images_per_second": {
            name: round(images / statistics.median(s), 1) for name, s in seconds.items()
        },
        "ratio_to_torch": round(rates.median_ratio(seconds["torch"], seconds["step"]), 3),
        "ratio_to_torch_arithmetic": round(
            rates.median_ratio(seconds["torch_arithmetic"], seconds["step"]), 3
        ),
    }


def measure(config, arguments) -> dict:
    """Rates of the step and of what it is compared with, and their ratios."""
    steps.check_batch_size(config.batch_size)
    data = networks.random_split(methods.create(config), arguments.images)
    kinds = {"step": feeds.ResidentFeed, "host_fed": feeds.HostFeed}
    runs = {name: Run(config, data, kind) for name, kind in kinds.items()}
    floor = Floor(runs["step"].method, runs["step"].state.weights, config)
    per_call = steps.steps_per_call(config.steps_per_call, runs["step"].feed)
    calls = arguments.calls or (8 if per_call == 1 else 4)
    work = {"floor": lambda: floor.seconds(calls, per_call)}
    work |= {name: lambda run=run: run.seconds(calls, per_call) for name, run in runs.items()}
    rates.taking_turns(work, 1)  # Compiles.
    if arguments.profile:
        with jax.profiler.trace(str(arguments.profile)):
            runs["step"].seconds(2, per_call)
    seconds = rates.taking_turns(work, arguments.rounds)

    images = calls * per_call * config.batch_size
    flops = floor.flops()
    dtype = devices.compute_dtype(config.model.dtype) or jnp.float32
    peak = rates.matrix_rate(dtype)
    per_step = {name: statistics.median(s) / (calls * per_call) for name, s in seconds.items()}
    return {
        "benchmark": "train_step",
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "config": arguments.config,
        "model": {name: config.model[name] for name in config.model if name != "pretrained"},
        "image_size": tuple(config.data.image_size),
        "dtype": rates.dtype_name(dtype),
        "batch_size": config.batch_size,
        "images": arguments.images,
        "steps_per_call": per_call,
        "images_per_second": {
            name: round(images / statistics.median(s), 1) for name, s in seconds.items()
        },
        "ratio_to_floor": round(rates.median_ratio(seconds["floor"], seconds["step"]), 3),
        "ratio_host_fed": round(rates.median_ratio(seconds["step"], seconds["host_fed"]), 3),
        "matrix_tflops_per_second": round(peak / 1e12, 3),
        "model_gflops_per_step": round(flops / 1e9, 2),
        "share_of_peak": {
            name: round(flops / per_step[name] / jax.device_count() / peak, 3)
            for name in ("floor", "step")
        },
        "host_ms_per_step": round(1e3 * statistics.median(runs["step"].host_seconds) / per_call, 3),
    }


class Run:
    """The training call on one feed."""

    def __init__(self, config, data, feed):
        self.method, self.state = networks.begun(methods.create(config), data)
        self.feed = feed(columns_of(data, (*self.method.forms, *self.method.labels)))
        self.seed = devices.put_replicated(np.uint32(config.seed))
        batches = self.method.draw_batches(self.state, data, 0)
        self.batches = np.tile(batches, (-(-1000 // len(batches)), 1))
        self.train_call = steps.compile_train_call(self.method, self.state, self.feed)
        self.host_seconds: list[float] = []

    def seconds(self, calls: int, per_call: int) -> float:
        """Seconds of so many calls, metrics fetched after each; counts the host's own part."""
        begin = started = time.perf_counter()
        for sent in self.feed.calls(self.batches[: calls * per_call], per_call):
            self.state, metrics = self.train_call(self.state, self.feed.resident, sent, self.seed)
            self.host_seconds.append(time.perf_counter() - started)
            jax.device_get(metrics)
            started = time.perf_counter()
        return time.perf_counter() - begin


class Floor:
    """Forward and backward of the bare networks on random images that lie on the device."""

    def __init__(self, method, weights, config):
        self.method = method
        # The run's own weights are given away at its first call.
        self.weights = jax.tree.map(jnp.copy, weights)
        split = jax.sharding.NamedSharding(
            devices.mesh(), jax.sharding.PartitionSpec(None, devices.AXIS)
        )
        self.pool = {
            name: jax.jit(
                lambda key, shape=shape: jax.random.normal(key, (_POOL, *shape)),
                out_shardings=split,
            )(jax.random.key(number))
            for number, (name, shape) in enumerate(
                networks.inputs(method, config.batch_size).items()
            )
        }

        def call(weights, pool, numbers):
            def step(last, number):
                del last
                images = {name: array[number % _POOL] for name, array in pool.items()}
                value, moved = self._gradients(weights, images)
                return moved, value

            start = jax.tree.map(jnp.zeros_like, (weights.params, weights.statistics))
            # Without the values XLA would leave out networks that get no gradient, teachers.
            return steps.repeat(step, start, numbers)

        self.call = jax.jit(call)

    def _gradients(self, weights, images):
        """The value, and of it the gradients of all weights and the running statistics."""

        def objective(params):
            return self._forward(dataclasses.replace(weights, params=params), images)

        (value, statistics), gradients = jax.value_and_grad(objective, has_aux=True)(weights.params)
        return value, (gradients, statistics)

    def _forward(self, weights, images):
        """A linear function of all outputs, and the running statistics."""
        model = self.method.model(weights)
        outputs = networks.forward(self.method, model, images)
        value = sum(output[..., ::2].sum() for output in outputs)
        return value, nnx.state(model, nnx.BatchStat)

    def seconds(self, calls: int, per_call: int) -> float:
        """Seconds of so many calls, in flight together."""
        numbers = devices.put(np.arange(per_call), devices.replicated())
        return rates.seconds_of(
            lambda: [self.call(self.weights, self.pool, numbers) for _ in range(calls)]
        )

    def flops(self) -> int:
        """FLOPs of a step's matrix products and convolutions: three times the forward ones."""
        return 3 * rates.matrix_flops(
            self._forward, self.weights, {n: a[0] for n, a in self.pool.items()}
        )


if __name__ == "__main__":
    main()

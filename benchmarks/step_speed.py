"""What `train_step.py` measures."""

import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import rates
from flax import nnx

from sicl_jax import devices, methods
from sicl_jax.methods.base import TrainingData
from sicl_jax.training import feeds, steps


def measure(config, arguments) -> dict:
    """Rates of the step and of what it is compared with, and their ratios."""
    steps.check_batch_size(config.batch_size)
    method = methods.create(config)
    data = random_data(config, arguments.images)
    weights = method.initial_weights(config.seed)
    floor = Floor(method, weights, config)
    runs = {
        name: Run(method, weights, data, feed(data, method.uses_masks), config)
        for name, feed in {"step": feeds.ResidentFeed, "host_fed": feeds.HostFeed}.items()
    }
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
    dtype = devices.compute_dtype(config.model.dtype)
    peak = rates.matrix_rate(dtype)
    per_step = {name: statistics.median(s) / (calls * per_call) for name, s in seconds.items()}
    return {
        "benchmark": "train_step",
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "model": f"{config.model.block} {tuple(config.model.stage_sizes)} x{config.model.width}",
        "image_size": tuple(config.data.image_size),
        "dtype": rates.dtype_name(dtype),
        "batch_size": config.batch_size,
        "images": arguments.images,
        "padded_clusters": runs["step"].state.clusters.counts.shape[0],
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


def random_data(config, count: int):
    """Noise in the shape of a training split."""
    rng = np.random.default_rng(0)
    shape = (count, *config.data.image_size)
    images = rng.integers(0, 256, (*shape, 3), np.uint8)
    masks = rng.integers(0, 2, shape, np.uint8) * np.uint8(255)
    return TrainingData(images, masks, np.arange(count, dtype=np.int32) % 3)


class Run:
    """The training call on one feed."""

    def __init__(self, method, weights, data, feed, config):
        self.feed = feed
        labels = np.arange(len(data), dtype=np.int32) // 8
        self.state = method.with_labels(method.start_from(weights, data), labels, epoch=1)
        self.seed = devices.put_replicated(np.uint32(config.seed))
        batches = method.draw_batches(self.state, data, 0)
        self.batches = np.tile(batches, (-(-1000 // len(batches)), 1))
        self.train_call = steps.compile_train_call(method, self.state, feed)
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
    """Forward and backward of the encoders on random images that lie on the device."""

    def __init__(self, method, weights, config):
        self.method = method
        self.weights = devices.put_replicated(weights)
        shape = (1 + method.uses_masks, 4, config.batch_size, *config.data.image_size, 3)
        split = jax.sharding.NamedSharding(
            devices.mesh(), jax.sharding.PartitionSpec(None, None, devices.AXIS)
        )
        draw = jax.jit(lambda key: jax.random.normal(key, shape), out_shardings=split)
        self.pool = draw(jax.random.key(0))

        def call(weights, pool, numbers):
            def step(last, number):
                del last
                return self._gradients(weights, pool[:, number % len(pool[0])]), jnp.zeros(())

            start = jax.tree.map(jnp.zeros_like, (weights.params, weights.statistics))
            return steps.repeat(step, start, numbers)[0]

        self.call = jax.jit(call)

    def _gradients(self, weights, images):
        """Gradients of all weights, and the running statistics."""

        def objective(params):
            return self._forward(dataclasses.replace(weights, params=params), images)

        return jax.grad(objective, has_aux=True)(weights.params)

    def _forward(self, weights, images):
        """A linear function of all outputs, and the running statistics."""
        model = self.method.model(weights)
        encoders = (model.rgb, model.silhouette) if model.silhouette else (model.rgb,)
        codes = [encode(x, train=True) for encode, x in zip(encoders, images, strict=True)]
        value = sum(c.feature[:, ::2].sum() + c.projection[:, ::2].sum() for c in codes)
        return value, nnx.state(model, nnx.BatchStat)

    def seconds(self, calls: int, per_call: int) -> float:
        """Seconds of so many calls, in flight together."""
        numbers = devices.put(np.arange(per_call), devices.replicated())
        return rates.seconds_of(
            lambda: [self.call(self.weights, self.pool, numbers) for _ in range(calls)]
        )

    def flops(self) -> int:
        """FLOPs of a step's matrix products and convolutions: three times the forward ones."""
        return 3 * rates.matrix_flops(self._forward, self.weights, self.pool[:, 0])

"""One epoch of the size of PRCC's, taken apart: features, clustering, steps, test.

    sicl-jax prepare synthetic_people/prcc_sized --data_dir DIR
    python benchmarks/epoch.py --config sicl_demo --config.data.dir=DIR [--config.FIELD=VALUE]...

Prints one JSON line: the seconds of each part in one run, and each part's share of the epoch as it
is when it ends in a test. The steps are timed once compiled; what compiling took is told apart.
"""

import argparse
import json
import time

import jax
import numpy as np

from sicl_jax import config as configs
from sicl_jax import devices, methods
from sicl_jax.methods.embedder import Embedder, columns_of
from sicl_jax.methods.source import begin
from sicl_jax.training import feeds, loop, steps
from sicl_jax.training.testing import Tester


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="sicl_prcc")
    parser.add_argument("--dataset", default="synthetic_people/prcc_sized")
    parser.add_argument("--steps", type=int, default=400, help="of 64 images, unless the config")
    arguments, overrides = parser.parse_known_args()
    overrides = [f"--config.data.name={arguments.dataset}", *overrides]
    overrides.append(f"--config.steps_per_epoch={arguments.steps}")
    print(json.dumps(measure(configs.load(arguments.config, overrides))))


def measure(config) -> dict:
    """Seconds and shares of the parts of an epoch."""
    clock = Clock()
    method = methods.create(config)
    dataset = loop.open_dataset(config, method)
    data = dataset.split("train")
    method = method.sized(method.measure(data, None))
    tester = Tester(dataset, Embedder(method, batch_size=config.embed_batch_size), seed=config.seed)

    with clock("bank_features_with_compiling"):
        state = begin(method, data, config.seed)
    with clock("bank_features"):
        state = begin(method, data, config.seed)
    with clock("images_to_device"):
        feed = feeds.choose(
            columns_of(data, (*method.forms, *method.labels)), config.data.device_budget_gb
        )
        jax.block_until_ready(feed.resident)
    with clock("clustering"):
        started = method.begin_epoch(state, data, 1, {})
        state, figures = started.state, started.figures
        jax.block_until_ready(state)
    with clock("batches"):
        batches = method.draw_batches(state, data, 1)
    call = steps.compile_train_call(method, state, feed)
    per_call = steps.steps_per_call(config.steps_per_call, feed)
    seed = devices.put_replicated(np.uint32(config.seed))
    with clock("compiling"):
        state = run(call, state, feed, batches[:per_call], per_call, seed)
    with clock("steps"):
        state = run(call, state, feed, batches, per_call, seed)
    tester.features(state.weights)  # Reads the test images for the first time.
    with clock("test_features"):
        tester.features(state.weights)
    with clock("test"):
        tester.test(state.weights)
    return report(config, clock.seconds, figures, len(data), tester)


def run(call, state, feed, batches, per_call, seed):
    """The steps of an epoch as the loop takes them, metrics fetched after every call."""
    for sent in feed.calls(batches, per_call):
        state, metrics = call(state, feed.resident, sent, seed)
        jax.device_get(metrics)
    return state


def report(config, seconds, figures, num_images, tester) -> dict:
    epoch = seconds["clustering"] + seconds["batches"] + seconds["steps"] + seconds["test"]
    parts = seconds | {"test_ranking": seconds["test"] - seconds["test_features"]}
    shares = ("clustering", "batches", "steps", "test_features", "test_ranking")
    images = config.steps_per_epoch * config.batch_size
    return {
        "benchmark": "epoch",
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "dataset": config.data.name,
        "images": num_images,
        "test_images": sum(len(tester.dataset.split(name)) for name in tester.splits),
        **figures,
        "steps": config.steps_per_epoch,
        "batch_size": config.batch_size,
        "seconds": {name: round(value, 3) for name, value in parts.items()},
        "seconds_epoch_with_test": round(epoch, 2),
        "share": {name: round(parts[name] / epoch, 4) for name in shares},
        "images_per_second_steps": round(images / seconds["steps"], 1),
        "images_per_second_bank_features": round(num_images / seconds["bank_features"], 1),
    }


class Clock:
    """Seconds of named parts: `with clock("steps"): ...`."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str) -> "Clock":
        """Names the part that comes."""
        self._name, self._begin = name, time.perf_counter()
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.seconds[self._name] = time.perf_counter() - self._begin


if __name__ == "__main__":
    main()

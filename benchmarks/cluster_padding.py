"""Programs of a run against what its steps compute for padding, by how clusters are padded.

    python benchmarks/cluster_padding.py [--images 6000] [--epochs 60] [--people 150]

Clusters made-up features of every epoch of a run, in which people grow apart as they do in
training, and prints one JSON line: for each way to pad, how many programs the run compiles, how
much larger than needed arrays are in the mean, and seconds of a step's three memories (losses and
their gradients, 64 features of 2048 numbers) in the mean over the epochs.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import rates

from sicl_jax import clustering
from sicl_jax.memory import padded_clusters
from sicl_jax.methods.sicl import losses

_BATCH, _FEATURES, _MEMORIES = 64, 2048, 3
_LAST_NOISE, _MORE_AT_FIRST = 1.35, 1.6


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--people", type=int, default=150)
    arguments = parser.parse_args()
    counts = [
        clustering.cluster(features(arguments, epoch)).num_clusters
        for epoch in range(arguments.epochs)
    ]
    chosen = {
        way: [size(count, arguments.images) for count in counts] for way, size in _WAYS.items()
    }
    seconds = {size: step_seconds(size) for size in sorted(set(sum(chosen.values(), [])))}
    print(
        json.dumps(
            {
                "benchmark": "cluster_padding",
                "device": jax.devices()[0].device_kind,
                "images": arguments.images,
                "epochs": arguments.epochs,
                "clusters": {"first": counts[0], "least": min(counts), "last": counts[-1]},
                "ways": {
                    way: {
                        "programs": len(set(sizes)),
                        "padded_over_needed": _mean(np.divide(sizes, counts).tolist()),
                        "seconds_of_a_step": _mean(seconds[size] for size in sizes),
                    }
                    for way, sizes in chosen.items()
                },
            }
        )
    )


def features(arguments, epoch: int) -> np.ndarray:
    """Unit features of all images in an epoch: people as directions, less and less noise.

    The noise falls as errors do in training, fast at first, and differs from image to image.
    """
    rng = np.random.default_rng(0)
    people = rng.normal(size=(arguments.people, 128))
    who = np.arange(arguments.images) % arguments.people
    hardness = rng.uniform(0.5, 1.5, (arguments.images, 1))
    noise = rng.normal(size=(arguments.images, 128)) * hardness
    rows = people[who] + (_LAST_NOISE + _MORE_AT_FIRST * math.exp(-epoch / 15)) * noise
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def step_seconds(size: int) -> float:
    """Seconds of the memories' losses and gradients with so many prototypes."""
    rng = np.random.default_rng(0)
    prototypes = jnp.asarray(rng.normal(size=(size, _FEATURES)), jnp.float32)
    rows = jnp.asarray(rng.normal(size=(_MEMORIES, _BATCH, _FEATURES)), jnp.float32) / _FEATURES
    labels = jnp.asarray(rng.integers(0, size, _BATCH))

    @jax.jit
    @jax.grad
    def gradients(rows, prototypes):
        def loss(x):
            scores = losses.cluster_probabilities(x, prototypes, jnp.ones(size), 0.05)
            return losses.prototype_loss(scores, labels)

        return sum(loss(x) for x in rows)

    gradients(rows, prototypes).block_until_ready()
    return statistics.median(
        rates.seconds_of(lambda: gradients(rows, prototypes)) for _ in range(9)
    )


def _half_or_all(count: int, images: int) -> int:
    share = images / 2 if count <= images / 2 else images
    return math.ceil(share / 128) * 128


def _geometric(step: float) -> Callable[[int, int], int]:
    return lambda count, images: padded_clusters(count, images, step=step)


def _mean(values) -> float:
    return round(statistics.mean(values), 4)


_WAYS = {
    "half or all": _half_or_all,
    "tiles of 128": lambda count, _: math.ceil(count / 128) * 128,
    "steps of 1.2": _geometric(1.2),
    "steps of 1.3": _geometric(1.3),
    "steps of 1.4": _geometric(1.4),
}


if __name__ == "__main__":
    main()

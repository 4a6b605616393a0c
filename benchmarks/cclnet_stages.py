"""What CCLNet does apart from its image encoders: stage 1's steps, and the matching of late epochs.

    python benchmarks/cclnet_stages.py [--config cclnet_demo] [--clusters 400] [--calls 4]
        [--rounds 5] [--config.FIELD=VALUE]...

Prints one JSON line; all take turns in one run:

- `assignment`: SciPy's matching of so many visible with so many infrared clusters, alone;
- `early`, `late`: a step of stage 0 before matched clusters exchange and after, the host's call and
  all;
- `prompts`: a step of stage 1, which trains the prompts of these clusters.

Images are random, four of each cluster, and so are the features.
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
from step_speed import Run

from sicl_jax import config as configs
from sicl_jax import devices, methods
from sicl_jax.methods.cclnet.losses import match
from sicl_jax.methods.cclnet.memories import PromptMemory
from sicl_jax.methods.source import Source
from sicl_jax.methods.state import Clock
from sicl_jax.training import feeds, steps

_PER_CLUSTER = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="cclnet_demo")
    parser.add_argument("--clusters", type=int, default=400, help="of each modality")
    parser.add_argument("--calls", type=int, default=4, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    arguments, overrides = parser.parse_known_args()
    overrides = ["--config.model.pretrained=", *overrides]
    print(json.dumps(measure(configs.load(arguments.config, overrides), arguments)))


def measure(config, arguments) -> dict:
    """Seconds of each, and the matching's share of a late step."""
    images = 2 * arguments.clusters * _PER_CLUSTER
    data = networks.random_split(methods.create(config), images, per_identity=_PER_CLUSTER)
    runs = {"early": Run(config, data, feeds.ResidentFeed)}
    runs["late"] = Run(config, data, feeds.ResidentFeed)
    late = Clock.at(0, config.exchange.after, phase=1)
    runs["late"].state = dataclasses.replace(runs["late"].state, clock=late)
    runs["prompts"] = Prompts(config, data, runs["early"])
    visible, infrared = (devices.fetch(rows) for rows in runs["early"].state.memory.rows)
    similarity = visible[: arguments.clusters] @ infrared[: arguments.clusters].T

    def assignment_seconds():
        begin = time.perf_counter()
        for _ in range(arguments.calls):
            match(similarity)
        return time.perf_counter() - begin

    work = {name: lambda run=run: run.seconds(arguments.calls, 1) for name, run in runs.items()}
    work = {"assignment": assignment_seconds, **work}
    rates.taking_turns(work, 1)  # Compiles.
    seconds = rates.taking_turns(work, arguments.rounds)
    each = {name: statistics.median(s) / arguments.calls for name, s in seconds.items()}
    return {
        "benchmark": "cclnet_stages",
        "device": jax.devices()[0].device_kind,
        "config": arguments.config,
        "image_size": tuple(config.data.image_size),
        "batch_size": config.batch_size,
        "prompts_batch_size": config.prompts.batch_size,
        "clusters": arguments.clusters,
        "milliseconds": {name: round(1e3 * s, 2) for name, s in each.items()},
        "prompt_steps_per_second": round(1 / each["prompts"], 2),
        "assignment_share_of_late_step": round(each["assignment"] / each["late"], 4),
        "exchange_share_of_late_step": round(1 - each["early"] / each["late"], 4),
    }


class Prompts(Run):
    """Steps of stage 1 on the clusters of a run of stage 0."""

    def __init__(self, config, data, before: Run):  # It has no images.
        memory = before.state.memory
        first, end = before.method._bounds(memory)
        sizes = {"visible_classes": first, "infrared_classes": end - first}
        self.method = methods.create(config, sizes)
        self.feed = feeds.ResidentFeed({"identity": data.labels["identity"]})
        projections = np.random.default_rng(0).normal(size=(len(data), config.model.embed_dim))
        projections = devices.put_replicated(projections.astype(np.float32))
        # The other run's own arrays are given away at its first call.
        labels, first_infrared = jax.tree.map(jnp.copy, (memory.labels, memory.first_infrared))
        memory = PromptMemory(labels, first_infrared, projections)
        weights = Source(self.method, data, config.seed).weights()
        self.state = self.method.start(weights, memory, stage=1)
        batches = self.method.draw_batches(self.state, data, 0)
        self.batches = np.tile(batches, (-(-100 // len(batches)), 1))
        self.seed = devices.put_replicated(np.uint32(config.seed))
        self.train_call = steps.compile_train_call(self.method, self.state, self.feed)
        self.host_seconds: list[float] = []


if __name__ == "__main__":
    main()

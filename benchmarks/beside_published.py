"""SiCL trained by the published formulas in PyTorch and by this project, from the same weights.

    pip install -c constraints.txt '.[cpu,bench]'
    python benchmarks/beside_published.py --data_dir DIR [--seeds 8] [--config.FIELD=VALUE]...

A tiny network on some of the demo's drawn people. The PyTorch program (`torch_programs.Sicl`,
clustering by plain loops from `tests/verify/make_golden.py`) shares initial weights and images with
ours and nothing else; draws differ. Prints for every seed what both come to, and one JSON line: the
paired differences, ours less PyTorch's, with their 95 % confidence intervals (Student's t).
"""

import argparse
import json
import pathlib
import time

import numpy as np
import scipy.stats
import torch_programs
from make_golden import dbscan, jaccard, own_clusters, refinement
from numpy.lib.stride_tricks import sliding_window_view

from sicl_jax import config as configs
from sicl_jax import devices, evaluation, methods
from sicl_jax.data.dataset import ReidDataset, Split
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.methods.embedder import Embedder, columns_of
from sicl_jax.methods.source import begin
from sicl_jax.training import feeds, loop, steps
from sicl_jax.training.testing import Tester

_SETTINGS = {
    "data.image_size": (64, 32),
    "model.stage_sizes": (1, 1, 1),
    "model.pretrained": "",
    "clustering.refine": True,
    "optimizer.learning_rate": 2e-3,
    "epochs": 8,
    "steps_per_epoch": 30,
    "schedule.every": 6,
    "augment.pad": 3,
}
_PROTOCOLS = {"mAP_changed": "cloth_changing/all", "mAP_same": "same_clothes/all"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--people", type=int, default=24, help="whose images are trained on")
    arguments, overrides = parser.parse_known_args()
    prepare(Request("synthetic_people/demo", arguments.data_dir))
    settings = [f"--config.{name}={value}" for name, value in _SETTINGS.items()]
    settings.append(f"--config.data.dir={arguments.data_dir}")
    rows = []
    for seed in range(arguments.seeds):
        config = configs.load("sicl_demo", [*settings, *overrides, f"--config.seed={seed}"])
        started = time.perf_counter()
        rows.append(both(config, arguments.people))
        print(f"seed {seed}, {time.perf_counter() - started:.0f} s: {rows[-1]}", flush=True)
    print(json.dumps({"benchmark": "beside_published", "seeds": len(rows), **compared(rows)}))


def both(config, people: int) -> dict[str, dict[str, float]]:
    """Figures of both programs' last epoch and last test."""
    method = methods.create(config)
    dataset = loop.open_dataset(config, method)
    data = of_first(dataset.split("train"), people)
    state = begin(method, data, config.seed)
    program = torch_programs.of_state(method, state, data)
    tester = Tester(dataset, Embedder(method), seed=config.seed)
    return {"ours": ours(method, state, data, tester), "torch": theirs(program, data, dataset)}


def of_first(data: Split, people: int) -> Split:
    """The images of the first people of a split."""
    rows = np.flatnonzero(data.labels["identity"] < np.unique(data.labels["identity"])[people])
    return Split(
        {name: column[rows] for name, column in data.pixels.items()},
        {name: column[rows] for name, column in data.labels.items()},
        tuple(data.names[row] for row in rows),
    )


def ours(method, state, data: Split, tester: Tester) -> dict[str, float]:
    """Trains with this project."""
    feed = feeds.ResidentFeed(columns_of(data, (*method.forms, *method.labels)))
    seed = devices.put_replicated(np.uint32(method.config.seed + 1))
    call = steps.compile_train_call(method, state, feed)
    figures = {}
    for epoch in range(method.config.epochs):
        started = method.begin_epoch(state, data, epoch, figures)
        state, figures = started.state, started.figures
        batches = method.draw_batches(state, data, epoch)
        clock = type(state.clock).at(int(state.clock.step), epoch, len(batches))
        state = state.__class__(state.weights, state.optimizer, state.memory, clock)
        losses = []
        for sent in feed.calls(batches, 1):
            state, metrics = call(state, feed.resident, sent, seed)
            losses.append(float(metrics["loss"][0]))
    return {
        "clusters": figures["clusters"],
        "pseudo_identities": figures["pseudo_identities"],
        "loss": float(np.mean(losses)),
        **scores(tester.test(state.weights)),
    }


def theirs(program: torch_programs.Sicl, data: Split, dataset: ReidDataset) -> dict[str, float]:
    """Trains by the formulas alone."""
    config, rng = program.config, np.random.default_rng(program.config.seed)
    rate = config.optimizer.learning_rate
    for epoch in range(config.epochs):
        labels = pseudo_labels(program.banks["rgb"].numpy(), config.clustering)
        wanted = epoch * config.neighbors.num // config.epochs
        near, similarity = neighbors(program.banks["fusion"].numpy(), labels, wanted)
        program.regroup(labels, near, similarity)
        for group in program.optimizer.param_groups:
            group["lr"] = rate * config.schedule.gamma ** (epoch // config.schedule.every)
        batches = draw(labels, data.labels["camera"], config, rng)
        losses = [sum(program.step(rows).values()) for rows in batches]
    features = {
        name: evaluation.FeatureSet(
            program.features("rgb", split.pixels["image"]).numpy(), split.labels, split.names
        )
        for name in evaluation.required_splits(dataset.name, dataset.split_names)
        for split in [dataset.split(name)]
    }
    results = evaluation.evaluate_dataset(dataset.name, features, seed=config.seed)
    return {
        "clusters": int((np.bincount(labels) > 1).sum()),
        "pseudo_identities": int(labels.max()) + 1,
        "loss": float(np.mean(losses)),
        **scores(results),
    }


def pseudo_labels(features: np.ndarray, config) -> np.ndarray:
    """Pseudo-identities, refined (section 4)."""
    distance = jaccard(features, config.k1, config.k2)
    plain = dbscan(distance, config.eps, config.min_samples)
    tight = own_clusters(dbscan(distance, config.eps - config.eps_gap, config.min_samples))
    score, spread = refinement(distance, labels := own_clusters(plain), tight)
    kept = config.ratio * score <= spread[labels]
    return own_clusters(np.where(kept, plain, -1))


def neighbors(rows: np.ndarray, labels: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """The released neighbours of each cluster, (C, K), and their similarities."""
    means = np.stack([rows[labels == label].mean(0) for label in range(labels.max() + 1)])
    similarity = means @ means.T / (means**2).sum()
    others = similarity.copy()
    np.fill_diagonal(others, -np.inf)
    near = np.argsort(-others, axis=1, kind="stable")[:, :wanted]
    return near, np.take_along_axis(similarity, near, axis=1)


def draw(labels: np.ndarray, cameras: np.ndarray, config, rng) -> np.ndarray:
    """An epoch's batches (section 5)."""
    size, wanted, batches = config.batch_size, config.sampler.num_instances, []
    while len(batches) < config.steps_per_epoch:
        drawn = []
        for label in rng.permutation(labels.max() + 1):
            own = np.flatnonzero(labels == label)
            first = rng.choice(own)
            drawn.append(first)
            away = own[cameras[own] != cameras[first]]
            rest = away if len(away) else own[own != first]
            if len(rest):
                drawn.extend(rng.choice(rest, wanted - 1, replace=len(rest) < wanted))
        batches.extend(sliding_window_view(drawn, size)[::size])
    return np.stack(batches[: config.steps_per_epoch])


def scores(results) -> dict[str, float]:
    """Percent of mAP by our names of the protocols."""
    return {name: 100 * results[protocol].mAP for name, protocol in _PROTOCOLS.items()}


def compared(rows: list[dict[str, dict[str, float]]]) -> dict:
    """Means of both, and the mean paired difference with its 95 % confidence interval."""
    table = {}
    for name in rows[0]["ours"]:
        mine, other = (np.array([row[side][name] for row in rows]) for side in ("ours", "torch"))
        difference = mine - other
        error = scipy.stats.sem(difference)
        reach = scipy.stats.t.ppf(0.975, len(rows) - 1) * error
        low, high = difference.mean() - reach, difference.mean() + reach
        table[name] = {
            "ours": round(mine.mean(), 3),
            "torch": round(other.mean(), 3),
            "difference": round(difference.mean(), 3),
            "interval": [round(low, 3), round(high, 3)],
            "excludes_zero": bool(low > 0 or high < 0),
        }
    return table


if __name__ == "__main__":
    main()

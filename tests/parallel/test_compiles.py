"""A long run with ever other numbers of clusters compiles a handful of programs."""

import contextlib

import jax
import numpy as np

from sicl_jax import clustering
from sicl_jax.clustering.pseudo_labels import Clustering
from sicl_jax.training import loop

EPOCHS = 60
_EVENT = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def counted_programs():
    """Names of what XLA compiles meanwhile."""
    names = []

    def listen(event, _seconds, **facts):
        if event == _EVENT:
            names.append(facts.get("fun_name"))

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_sixty_epochs_compile_eight_programs(tiny_config, tmp_path, monkeypatch):
    numbers = []

    def cluster(features, **_):
        """Every number of clusters from one image each to one for all, in sixty epochs."""
        count = np.geomspace(len(features), 1, EPOCHS).round().astype(int)[len(numbers)]
        numbers.append(count)
        labels = np.arange(len(features), dtype=np.int32) % count
        return Clustering(labels, labels, labels, np.bincount(labels), 0.0, 0.0)

    monkeypatch.setattr(clustering, "cluster", cluster)
    config = tiny_config(
        f"epochs={EPOCHS}",
        "steps_per_epoch=1",
        "model.stage_sizes=(1, 1)",
        "neighbors.num=5",
        "evaluate.every=20",
        "evaluate.always_after=60",
    )
    with counted_programs() as names:
        loop.train(config, tmp_path / "run", quiet=True, say=lambda line: None)
    assert len(numbers) == EPOCHS and len(set(numbers)) > 20
    assert len(names) <= 8, names

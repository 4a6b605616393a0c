"""A long run with ever other numbers of clusters compiles a handful of programs."""

import contextlib

import jax
import numpy as np

from sicl_jax import clustering
from sicl_jax.clustering.pseudo_labels import Clustering
from sicl_jax.training import feeds, loop, position

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
    # Sixty checkpoints take longer than all else, and compile nothing.
    save = position.Position.save
    monkeypatch.setattr(position.Position, "save", lambda self: len(numbers) % 20 or save(self))
    config = tiny_config(
        f"epochs={EPOCHS}",
        "steps_per_epoch=1",
        "data.image_size=(32, 16)",
        "model.stage_sizes=(1,)",
        "neighbors.num=5",
        "evaluate.every=20",
        "evaluate.always_after=60",
    )
    with counted_programs() as names:
        loop.train(config, tmp_path / "run", quiet=True, say=lambda line: None)
    assert len(numbers) == EPOCHS and len(set(numbers)) > 20
    assert len(names) <= 8, names


def test_epochs_of_any_length_take_calls_of_three_lengths():
    feed = feeds.ResidentFeed({"image": np.zeros((8, 4, 2, 3), np.uint8)})
    lengths = set()
    for count in range(120):
        batches = np.arange(2 * count, dtype=np.int32).reshape(count, 2)
        calls = list(feed.calls(batches, 50))
        lengths |= {len(call) for call in calls}
        np.testing.assert_array_equal(np.concatenate([batches[:0], *calls]), batches)
        assert len(calls) <= 2 + 7 + 6
    assert lengths == {50, 7, 1}

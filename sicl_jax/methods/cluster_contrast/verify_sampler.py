"""Cluster Contrast's `sampler.npz`: passes and batches of the published sampler."""

import random
from collections.abc import Iterator

import numpy as np

from sicl_jax.data.samplers import draw_pseudo_identities
from sicl_jax.verify import Check, Golden
from sicl_jax.verify.checks import relative_error

_SHARES, _PASSES = 0.12, 3000


def check_sampler(golden: Golden) -> Iterator[Check]:
    """Passes by the published generators' draws; statistics by our own."""
    labels = golden["labels"]
    options = {"num_instances": int(golden["num_instances"])}
    for case, cameras in {"camera": golden["cameras"], "nocam": None}.items():
        for number, seed in enumerate(golden["seeds"].tolist()):
            expected = golden.expected(f"{case}_pass{number}")
            rng = _PublishedDraws(seed, golden[f"{case}_order{number}"])
            drawn = draw_pseudo_identities(
                labels, cameras, steps=1, batch_size=len(expected), rng=rng, **options
            )
            error = relative_error(drawn[0], expected)
            yield golden.verdict(f"{case}_pass{number}", error, 0.0)

        expected = golden.expected(f"{case}_batches")
        passes = golden.with_prefix(f"{case}_batches_pass")
        rng = _RecordedDraws([passes[name] for name in sorted(passes)], labels)
        steps, batch_size = expected.shape
        drawn = draw_pseudo_identities(
            labels, cameras, steps=steps, batch_size=batch_size, rng=rng, **options
        )
        yield golden.verdict(f"{case}_batches", relative_error(drawn, expected), 0.0)

        length = len(golden.expected(f"{case}_pass0"))
        passes = draw_pseudo_identities(
            labels,
            cameras,
            steps=_PASSES,
            batch_size=length,
            rng=np.random.default_rng(0),
            **options,
        )
        counts = np.stack([np.bincount(drawn, minlength=len(labels)) for drawn in passes])
        yield golden.check(f"{case}_mean_count", counts.mean(axis=0), _SHARES)
        repeated = np.stack([np.bincount(labels, row > 1) > 0 for row in counts])
        yield golden.check(f"{case}_repeated_share", repeated.mean(axis=0), _SHARES)


class _PublishedDraws:
    """The published sampler's two generators in the place of one of NumPy's."""

    def __init__(self, seed: int, order: np.ndarray):
        self._first, self._others = random.Random(seed), np.random.RandomState(seed)
        self._order = order

    def permutation(self, count: int) -> np.ndarray:
        """The recorded order of clusters."""
        del count
        return self._order

    def choice(self, images: np.ndarray, size: int | None = None, replace: bool = True):
        """A first image of a cluster, or the others."""
        if size is None:
            return self._first.choice(images)
        return self._others.choice(images, size, replace)


class _RecordedDraws:
    """Passes that were drawn before, to see how they are cut into batches."""

    def __init__(self, passes: list[np.ndarray], labels: np.ndarray):
        self._passes, self._labels = iter(passes), labels
        self._images: Iterator[int] = iter(())

    def permutation(self, count: int) -> np.ndarray:
        """The order of clusters in the next pass."""
        images = next(self._passes)
        self._images = iter(images.tolist())
        _, first = np.unique(self._labels[images], return_index=True)
        order = self._labels[images][np.sort(first)]
        assert len(order) == count
        return order

    def choice(self, images: np.ndarray, size: int | None = None, replace: bool = True):
        """The next images of the pass."""
        del images, replace
        if size is None:
            return next(self._images)
        return np.array([next(self._images) for _ in range(size)])

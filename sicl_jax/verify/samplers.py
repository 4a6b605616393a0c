"""`sampler.npz`: the statistics of the batches of pseudo-identities (algorithm.md 5).

Generators differ, so what is compared is how long passes are, how often an image is drawn, and how
often a cluster gives an image twice.
"""

from collections.abc import Generator, Iterator, Sequence

import numpy as np

from sicl_jax.data.samplers import draw_identities, draw_pseudo_identities
from sicl_jax.verify.checks import Check
from sicl_jax.verify.files import Golden

_PASSES = 300
_SHARE = 0.03
# Standard errors by which one count of many may differ.
_DEVIATIONS = 6.0


def check(golden: Golden) -> Iterator[Check]:
    """Recomputes the file, with its cameras and with one camera for all."""
    labels, cameras = golden["labels"], golden["cameras"]
    for suffix, seen in {"": cameras, "_one_camera": np.zeros_like(cameras)}.items():
        lengths = golden.expected(f"pass_length{suffix}")
        stream = _draw(golden, seen, steps=_PASSES * lengths[0], batch_size=1)
        drawn = _counts(stream.reshape(_PASSES, -1), len(labels))
        # A pass gives every cluster once, so passes of another length would drift apart.
        groups = np.stack([np.bincount(labels, row) for row in drawn])
        drift = np.mean(groups != groups[0]) + np.ptp(lengths)
        yield golden.verdict(f"pass_length{suffix}", drift, 0.0)

        sizes = np.bincount(labels)
        repeated = np.stack([np.bincount(labels, row > 1) > 0 for row in drawn])
        shares = [repeated[:, sizes == size].mean() for size in golden["cluster_sizes"]]
        error = np.abs(shares - golden.expected(f"repeated_share{suffix}")).max()
        yield golden.verdict(f"repeated_share{suffix}", error, _SHARE)

        epochs = golden.expected(f"epochs{suffix}")
        ours = [_draw(golden, seen, steps=epochs.shape[1], seed=e) for e in range(len(epochs))]
        error = _count_error(_counts(ours, len(labels)), _counts(epochs, len(labels)))
        yield golden.verdict(f"epochs{suffix}: counts (deviations)", error, _DEVIATIONS)


def _draw(golden: Golden, cameras, *, steps: int, batch_size: int = 0, seed: int = 0):
    return draw_pseudo_identities(
        golden["labels"],
        cameras,
        steps=steps,
        batch_size=batch_size or int(golden["batch_size"]),
        num_instances=int(golden["num_instances"]),
        rng=np.random.default_rng(seed),
    )


def _counts(batches, images: int) -> np.ndarray:
    """How often every image is drawn in each of several passes or epochs, (E, N)."""
    return np.stack([np.bincount(np.ravel(drawn), minlength=images) for drawn in batches])


def _count_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference of an image's mean count in an epoch, in its standard errors."""
    difference = ours.mean(axis=0) - theirs.mean(axis=0)
    variance = sum(counts.var(axis=0, ddof=1) / len(counts) for counts in (ours, theirs))
    return float((np.abs(difference) / np.sqrt(np.maximum(variance, 1e-6))).max())


def check_identities(
    golden: Golden,
    name: str,
    theirs: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    num_instances: int,
    epochs: int,
) -> Generator[Check, None, list[np.ndarray]]:
    """Checks that published epochs of P x K images obey the rules, and so do ours.

    Args:
        golden: The file.
        name: What the published ones are called there.
        theirs: Published epochs, each (S, B) int.
        labels: (N,) int, the identity of each image.
        num_instances: K.
        epochs: How many of ours to draw.

    Returns:
        Ours.
    """
    ours = [
        draw_identities(
            labels,
            batch_size=theirs[0].shape[1],
            num_instances=num_instances,
            rng=np.random.default_rng(seed),
        )
        for seed in range(epochs)
    ]
    for quantity, found in ((f"{name}: rules", theirs), ("our epochs: rules", ours)):
        faults = sum(identity_faults(epoch, labels, num_instances) for epoch in found)
        yield golden.verdict(quantity, faults, 0.0)
    return ours


def identity_faults(batches: np.ndarray, labels: np.ndarray, num_instances: int) -> int:
    """How often an epoch's batches break the rules of `draw_identities`.

    Args:
        batches: (S, B) int.
        labels: (N,) int, the identity of each image.
        num_instances: K.
    """
    groups = labels[batches].reshape(len(batches), -1, num_instances)
    faults = np.count_nonzero(groups != groups[..., :1])
    identities = groups[..., 0]
    faults += sum(len(batch) - len(set(batch.tolist())) for batch in identities)
    images = np.bincount(labels)
    used, times = np.unique(batches, return_counts=True)
    faults += np.count_nonzero((times > 1) & (images[labels[used]] >= num_instances))
    left = np.maximum(images // num_instances, images > 0)
    left -= np.bincount(identities.ravel(), minlength=len(images))
    return faults + np.count_nonzero(left < 0) + (np.count_nonzero(left) >= identities.shape[1])

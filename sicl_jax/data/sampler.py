"""Batches of pseudo-identities (`algorithm.md` section 5), drawn on the host, once an epoch."""

import numpy as np

from sicl_jax.errors import UserError


def draw_epoch(
    labels: np.ndarray,
    cameras: np.ndarray,
    *,
    steps: int,
    batch_size: int,
    num_instances: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Image indexes of every batch of an epoch.

    A stream of pseudo-identities in random order, each giving `num_instances` images: one at
    random and others of other cameras than its own where it has any; with replacement only when
    there are too few. A pseudo-identity of one image gives that image alone. The stream is
    reshuffled when it runs out.

    Args:
        labels: (N,) int, the pseudo-identity of each image, all >= 0.
        cameras: (N,) int, the camera of each image.
        steps: S, batches in the epoch.
        batch_size: B, images in a batch.
        num_instances: Images that a pseudo-identity gives.
        rng: Source of randomness.

    Returns:
        (S, B) int32.

    Raises:
        UserError: There are fewer images than one batch holds.
    """
    if len(labels) < batch_size:
        raise UserError(
            f"{len(labels)} training images are fewer than one batch of {batch_size}: "
            "add images or lower config.train.batch_size"
        )
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    needed = steps * batch_size
    stream: list[np.ndarray] = []
    length = 0
    while length < needed:
        for cluster in rng.permutation(len(members)):
            drawn = _draw_instances(members[cluster], cameras, num_instances, rng)
            stream.append(drawn)
            length += len(drawn)
            if length >= needed:
                break
    return np.concatenate(stream)[:needed].reshape(steps, batch_size).astype(np.int32)


def _draw_instances(members, cameras, num_instances, rng) -> np.ndarray:
    """Images of one pseudo-identity: the first at random, the rest from other cameras if any."""
    if len(members) == 1:
        return members
    first = rng.choice(members)
    others = members[cameras[members] != cameras[first]]
    if len(others) == 0:
        others = members[members != first]
    wanted = num_instances - 1
    rest = rng.choice(others, wanted, replace=len(others) < wanted)
    return np.concatenate([[first], rest])

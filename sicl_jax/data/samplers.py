"""Which images make a batch, drawn on the host for a whole epoch at once.

Every sampler returns the indexes of an epoch's batches, (S, B) int32; its draws follow from the
generator that it is given and from nothing else.
"""

import numpy as np

from sicl_jax.errors import UserError


def draw_pseudo_identities(
    labels: np.ndarray,
    cameras: np.ndarray | None,
    *,
    steps: int,
    batch_size: int,
    num_instances: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws the batches of clustering methods (`docs/algorithm.md`, section 5).

    A pass goes over all pseudo-identities in random order. Each gives one image at random and
    `num_instances` - 1 others of its own, from other cameras than the first's when it has any
    there; with replacement when there are fewer than `num_instances` to choose from. A
    pseudo-identity of one image gives that image alone. A pass is cut into whole batches, the rest
    of it is dropped and a new pass begins. Passes shorter than a batch, where the published code
    fails, are joined until they fill one.

    Args:
        labels: (N,) int, the pseudo-identity of each image; -1 for images that are not drawn.
        cameras: (N,) int, the camera of each image; None to ignore cameras.
        steps: S, batches in the epoch.
        batch_size: B, images in a batch.
        num_instances: Images that a pseudo-identity gives.
        rng: Source of the draws.

    Returns:
        (S, B) int32.

    Raises:
        UserError: There are fewer images than one batch holds, or no pseudo-identity.
    """
    if len(labels) < batch_size:
        raise UserError(
            f"{len(labels)} training images are fewer than one batch of {batch_size}: "
            "add images or lower --config.batch_size"
        )
    members = members_of(labels)
    if not members:
        raise UserError(
            f"none of {len(labels)} training images is in a cluster: raise --config.clustering.eps"
        )
    batches: list[np.ndarray] = []
    while len(batches) < steps:
        drawn = np.zeros(0, np.int64)
        while len(drawn) < batch_size:
            order = rng.permutation(len(members))
            groups = [_draw_instances(members[i], cameras, num_instances, rng) for i in order]
            drawn = np.concatenate([drawn, *groups])
        batches.extend(drawn[: len(drawn) // batch_size * batch_size].reshape(-1, batch_size))
    return np.stack(batches[:steps]).astype(np.int32)


def members_of(labels: np.ndarray) -> list[np.ndarray]:
    """Returns the indexes of each label's samples, in ascending order of labels from 0 up."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []


def _draw_instances(members, cameras, num_instances, rng) -> np.ndarray:
    """Draws images of one pseudo-identity, the first at random and the rest as described above."""
    if len(members) == 1:
        return members
    first = rng.choice(members)
    others = members[:0] if cameras is None else members[cameras[members] != cameras[first]]
    if len(others) == 0:
        others = members[members != first]
    rest = rng.choice(others, num_instances - 1, replace=len(others) < num_instances)
    return np.concatenate([[first], rest])

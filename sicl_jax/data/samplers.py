"""Which images make a batch, drawn on the host for a whole epoch at once.

Every sampler returns the indexes of an epoch's batches, (S, B) int32; its draws follow from the
generator that it is given and from nothing else.
"""

import numpy as np

from sicl_jax.errors import UsageError, UserError


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


def draw_identities(
    labels: np.ndarray, *, batch_size: int, num_instances: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws batches of P identities with K images each (`docs/methods/cssc.md`, section 4).

    Each identity's images are shuffled and cut into groups of K; one with fewer first draws K of
    its own with replacement, and what is left over is not used in this epoch. While P identities
    have groups left, P of them, chosen uniformly, give the next group of each. Then the epoch ends
    and the rest is dropped, so that epochs vary in length.

    Args:
        labels: (N,) int, the identity of each image; -1 for images that are not drawn.
        batch_size: P K, images in a batch.
        num_instances: K.
        rng: Source of the draws.

    Returns:
        (S, B) int32; an identity's images stand side by side.

    Raises:
        UserError: There are fewer than P identities.
    """
    num_identities = batch_size // num_instances
    groups = []
    for members in members_of(labels):
        if len(members) < num_instances:
            members = rng.choice(members, num_instances)
        count = len(members) // num_instances
        shuffled = rng.permutation(members)[: count * num_instances]
        groups.append(list(shuffled.reshape(count, num_instances)))
    if len(groups) < num_identities:
        raise UserError(
            f"{len(groups)} identities are fewer than the {num_identities} of a batch: lower "
            "--config.batch_size or raise --config.sampler.num_instances"
        )
    batches = []
    left = np.arange(len(groups))
    while len(left) >= num_identities:
        chosen = rng.choice(left, num_identities, replace=False)
        batches.append(np.concatenate([groups[identity].pop() for identity in chosen]))
        left = left[[len(groups[identity]) > 0 for identity in left]]
    return np.stack(batches).astype(np.int32)


def check_identities(
    labels: np.ndarray, *, name: str, batch_size: int, num_instances: int
) -> list[str]:
    """Refuses labels that `draw_identities` cannot draw from, before any work.

    Args:
        labels: (N,) int, the identity of each training image, -1 unknown.
        name: Of the data set, for messages.
        batch_size: Images in a batch.
        num_instances: Images of an identity in a batch.

    Returns:
        Warnings, one line each.

    Raises:
        UsageError: A batch holds but one identity.
        UserError: Identities are unknown, or too few.
    """
    if batch_size < 2 * num_instances:
        raise UsageError(
            f"--config.batch_size={batch_size}: has one identity, and nobody to tell it from; take "
            f"twice --config.sampler.num_instances={num_instances} or more"
        )
    unknown = np.count_nonzero(labels < 0)
    if unknown == len(labels):
        raise UserError(
            f"{name}: its training images have no identities; train with a method that needs none "
            "(sicl, cluster_contrast), or prepare it from folders named by person"
        )
    if unknown:
        raise UserError(
            f"{name}: {unknown} of {len(labels)} training images have no identity; "
            "take them out or name their persons, and prepare it again"
        )
    identities, counts = np.unique(labels, return_counts=True)
    if len(identities) < (wanted := batch_size // num_instances):
        raise UserError(
            f"{name}: {len(identities)} training identities are fewer than the {wanted} of a "
            "batch; lower --config.batch_size or raise --config.sampler.num_instances"
        )
    single = identities[counts == 1]
    if not len(single):
        return []
    return [
        f"{name}: {len(single)} of {len(identities)} training identities have one image "
        f"(the first: {single[0]}), which stands in its batches {num_instances} times; "
        "add images of them or take them out"
    ]


def draw_cross_modality(
    labels: np.ndarray,
    infrared: np.ndarray,
    *,
    num_clusters: int,
    num_instances: int,
    rng: np.random.Generator | np.random.RandomState,
) -> np.ndarray:
    """Draws batches of clusters of two modalities (`docs/methods/cclnet.md`, section 5).

    Each step has `num_clusters` visible clusters, and as many infrared ones, none of them twice;
    there is no correspondence. Of each come `num_instances` images, always with replacement. A
    modality of fewer clusters, where the published code fails, gives those that it has in turn.

    Args:
        labels: (N,) int, each image's cluster among those of its modality; -1 is not drawn.
        infrared: (N,) bool, the modality of each image.
        num_clusters: P, of each modality in a batch.
        num_instances: K, images of a cluster.
        rng: Source of the draws; the published order of them is kept.

    Returns:
        (S, 2 P K) int32, visible images in the first half of a batch; S P K just exceeds the
        clustered images of the larger modality.

    Raises:
        UserError: A modality has no cluster.
    """
    members = [members_of(np.where(infrared == one, labels, -1)) for one in (False, True)]
    for name, groups in zip(("visible", "infrared"), members, strict=True):
        if not groups:
            raise UserError(
                f"none of the {name} training images is in a cluster: raise "
                "--config.clustering.eps, or lower --config.clustering.min_samples"
            )
    half = num_clusters * num_instances
    steps = max(sum(map(len, groups)) for groups in members) // half + 1
    batches = np.empty((steps, 2, num_clusters, num_instances), np.int32)
    for batch in batches:
        chosen = [
            np.resize(
                rng.choice(len(groups), min(num_clusters, len(groups)), replace=False), num_clusters
            )
            for groups in members
        ]
        for k in range(num_clusters):
            for modality, groups in enumerate(members):
                batch[modality, k] = rng.choice(groups[chosen[modality][k]], num_instances)
    return batches.reshape(steps, 2 * half)


def draw_modality_pairs(
    visible: np.ndarray, infrared: np.ndarray, *, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws a pass over two modalities at once (`docs/methods/cclnet.md`, section 6).

    Args:
        visible: Indexes of the visible images.
        infrared: Those of the infrared ones. The smaller modality is filled up to the length of
            the larger by uniform draws with replacement.
        batch_size: B, images of each modality in a batch.
        rng: Source of the draws.

    Returns:
        (S, 2 B) int32, visible images in the first half of a batch; -1 fills the last one.
    """
    length = max(len(visible), len(infrared))
    steps = -(-length // batch_size)
    batches = np.full((2, steps * batch_size), -1, np.int32)
    for row, images in zip(batches, (visible, infrared), strict=True):
        more = rng.choice(images, length - len(images))
        row[:length] = np.concatenate([rng.permutation(images), more])
    return np.moveaxis(batches.reshape(2, steps, batch_size), 0, 1).reshape(steps, -1)


def members_of(labels: np.ndarray) -> list[np.ndarray]:
    """Returns the indexes of each label's samples, in ascending order of labels from 0 up."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []


def _draw_instances(members, cameras, num_instances, rng) -> np.ndarray:
    """Draws images of one pseudo-identity, the first at random and the rest as described above."""
    first = rng.choice(members)
    others = members[:0] if cameras is None else members[cameras[members] != cameras[first]]
    if len(others) == 0:
        others = members[members != first]
    if len(others) == 0:
        return np.array([first])
    rest = rng.choice(others, num_instances - 1, replace=len(others) < num_instances)
    return np.concatenate([[first], rest])

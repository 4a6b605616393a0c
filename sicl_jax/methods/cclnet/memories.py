"""What CCLNet remembers from step to step, in each of its stages."""

import dataclasses

import jax
import jax.numpy as jnp

MODALITIES = ("visible", "infrared")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Described:
    """What stage 2 knows of the stages before.

    Attributes:
        labels: (N,) int32, stage 0's last clusters; see `ClusterMemory`.
        first_infrared: () int32, the first infrared cluster among them.
        texts: Text features of the visible and of the infrared clusters, (C, E) and (C', E).
    """

    labels: jax.Array
    first_infrared: jax.Array
    texts: tuple[jax.Array, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClusterMemory:
    """What stages 0 and 2 remember; C and C' are padded (`memory.padded_clusters`).

    Attributes:
        labels: (N,) int32, the cluster of each image, infrared clusters counted on from the
            visible ones; -1 for images that are left out.
        first_infrared: () int32, the first infrared cluster.
        rows: Unit rows of the visible and of the infrared clusters, (C, D) and (C', D).
        counts: Images of each, (C,) and (C',); 0 for padding.
        described: Of stage 2; () in stage 0.
    """

    labels: jax.Array
    first_infrared: jax.Array
    rows: tuple[jax.Array, jax.Array]
    counts: tuple[jax.Array, jax.Array]
    described: Described | tuple = ()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PromptMemory:
    """What stage 1 remembers.

    Attributes:
        labels: (N,) int32, stage 0's last clusters; see `ClusterMemory`.
        first_infrared: () int32, the first infrared cluster among them.
        projections: (N, E), CLIP's projections of all training images, made once.
    """

    labels: jax.Array
    first_infrared: jax.Array
    projections: jax.Array


def of_modalities(memory: ClusterMemory | Described, indexes: jax.Array) -> list[jax.Array]:
    """Labels of both halves of a batch among the clusters of their modality; -1 stays."""
    visible, infrared = jnp.split(memory.labels[indexes], 2)
    return [visible, jnp.where(infrared < 0, -1, infrared - memory.first_infrared)]

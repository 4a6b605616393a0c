"""What is odd about an epoch's pseudo-labels, for people to read."""

from collections.abc import Mapping
from typing import Any

# A cluster this large is not one person's; a count this much smaller than before has collapsed.
_LARGEST_SHARE = 0.5
_COLLAPSE = 0.1


def clustering_warnings(
    figures: Mapping[str, Any], before: Mapping[str, Any], num_images: int
) -> list[str]:
    """What is odd about an epoch's pseudo-labels, what it means and what helps.

    Args:
        figures: Of this epoch, as `begin_epoch` tells them: `pseudo_identities`, `unclustered`
            and `largest_cluster`.
        before: Of the epoch before; empty in the first one.
        num_images: N.
    """
    groups = figures["pseudo_identities"] - figures["unclustered"]
    if groups == 0:
        return [
            "no two images were put into one cluster: every image is an identity of its own, so "
            "this epoch only tells images apart; if it lasts, raise --config.clustering.eps or "
            "lower --config.clustering.min_samples"
        ]
    warnings = []
    largest = figures.get("largest_cluster", 0)
    if largest > _LARGEST_SHARE * num_images:
        warnings.append(
            f"one cluster holds {largest} of {num_images} images: different persons count as one "
            "and this epoch teaches little; if it lasts, lower --config.clustering.eps"
        )
    earlier = before.get("pseudo_identities", 0) - before.get("unclustered", 0)
    if groups < _COLLAPSE * earlier:
        warnings.append(
            f"clusters fell from {earlier} to {groups} within one epoch: the features may be "
            "collapsing; if the loss does not recover, lower --config.optimizer.learning_rate and "
            "train anew"
        )
    return warnings

"""What is odd about an epoch's pseudo-labels, for people to read."""

from collections.abc import Mapping
from typing import Any

# A cluster this large is not one person's; a count this much smaller than before has collapsed.
_LARGEST_SHARE = 0.5
_COLLAPSE = 0.1
# So many distances are eps by chance: five, or one for so many images where there are more.
_FEW_TIES, _IMAGES_A_TIE = 5, 1000


def clustering_warnings(
    figures: Mapping[str, Any], before: Mapping[str, Any], num_images: int
) -> list[str]:
    """What is odd about an epoch's pseudo-labels, what it means and what helps.

    Args:
        figures: Of this epoch, as `begin_epoch` tells them: `pseudo_identities`, `unclustered`,
            `largest_cluster`, and `ties` (`Clustering.num_ties`), if told.
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
    ties = figures.get("ties", 0)
    if ties > max(_FEW_TIES, num_images / _IMAGES_A_TIE):
        warnings.append(
            f"the distances of {ties} pairs of images are --config.clustering.eps up to rounding, "
            "which decides whether they share a cluster and differs from machine to machine; "
            "another eps, such as one 0.01 larger, avoids it"
        )
    return warnings

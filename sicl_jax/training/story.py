"""What a run tells a person: a line an epoch, and warnings about its pseudo-labels."""

from collections.abc import Mapping
from typing import Any

# A cluster this large is not one person's; a count this much smaller than before has collapsed.
_LARGEST_SHARE = 0.5
_COLLAPSE = 0.1


def epoch_line(line: Mapping[str, Any], epochs: int, num_images: int) -> str:
    """An epoch's figures for a person."""
    parts = [f"epoch {line['epoch']}/{epochs}: loss {line['loss']:.3f}"]
    if {"clusters", "unclustered"} <= line.keys():
        share = line["unclustered"] / num_images
        parts.append(
            f"{line['clusters']} clusters, {line['unclustered']} unclustered ({share:.0%})"
        )
        parts.append(f"clustering {line['seconds_clustering']:.1f} s")
    parts.append(f"{line['images_per_second']:.0f} images/s")
    return ", ".join(parts)


def clustering_warnings(
    figures: Mapping[str, Any], before: Mapping[str, Any], num_images: int
) -> list[str]:
    """What is odd about an epoch's pseudo-labels, what it means and what helps.

    Args:
        figures: Of this epoch, as `begin_epoch` tells them: `pseudo_identities`, `unclustered`
            and `largest_cluster`, if the method has pseudo-labels.
        before: Of the epoch before; empty in the first one.
        num_images: N.
    """
    if "pseudo_identities" not in figures:
        return []
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
            "collapsing; if the loss does not recover, lower --config.learning_rate and train anew"
        )
    return warnings

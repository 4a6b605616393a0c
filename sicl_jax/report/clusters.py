"""A page of clusters: what a run took for one person, beside who it was where that is known."""

import numpy as np

from sicl_jax.data.dataset import Split
from sicl_jax.evaluation.agreement import agreement
from sicl_jax.evaluation.features import UNKNOWN
from sicl_jax.report.document import element, evenly, note, picture, section, text

_MOST_CLUSTERS = 24
_MOST_MEMBERS = 18
_THUMB = 48


def clusters_section(split: Split, labels: np.ndarray, epoch: int) -> str:
    """Some clusters with their members, and how they agree with identities where these are known.

    Args:
        split: The training split.
        labels: (N,) pseudo-label of each image.
        epoch: Of the labels, counted from 1.
    """
    sizes = np.bincount(labels)
    grouped = int((sizes > 1).sum())
    alone = int((sizes == 1).sum())
    words = [
        f"Pseudo-labels of epoch {epoch}. Clusters of two images or more: {grouped:,}; images "
        f"alone: {alone:,} of {len(labels):,}."
    ]
    figures = agreement(labels, split.labels["identity"])
    if figures:
        listed = ", ".join(f"{_NAMES[name]} {value:.2f}" for name, value in figures.items())
        words.append(
            f"Against the identities, which training never sees: {listed}. The number on an image "
            "is its person's; a dashed frame marks those who are not the cluster's commonest one."
        )
    shown = _chosen(sizes)
    if len(shown) < grouped:
        words.append(f"Shown are {len(shown)} clusters, from the largest to the smallest.")
    tiles = [_cluster(split, labels, cluster) for cluster in shown]
    grid = element("div", *tiles, class_="clusters")
    return section("clusters", "Clusters", note(" ".join(words)), grid)


_NAMES = {"ari": "adjusted Rand index", "nmi": "mutual information", "purity": "purity"}


def _chosen(sizes: np.ndarray) -> np.ndarray:
    """Clusters at even steps from the largest to the smallest of those with two images or more."""
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 1]
    return order[evenly(len(order), _MOST_CLUSTERS)]


def _cluster(split: Split, labels: np.ndarray, cluster: int) -> str:
    rows = np.flatnonzero(labels == cluster)
    people = split.labels["identity"][rows]
    known = people[people != UNKNOWN]
    values, counts = np.unique(known, return_counts=True)
    words = f"{len(rows)} images"
    common = None
    if len(known):
        common = int(values[counts.argmax()])
        outfits = len(np.unique(split.labels["clothes"][rows][people == common]))
        words += f", {len(values)} {'person' if len(values) == 1 else 'people'}"
        words += f", purity {counts.max() / len(known):.0%}"
        if (split.labels["clothes"][rows] != UNKNOWN).all():
            words += f", {outfits} {'outfit' if outfits == 1 else 'outfits'} of person {common}"
    if len(rows) > _MOST_MEMBERS:
        words += f"; {_MOST_MEMBERS} shown"
    tiles = [_tile(split, row, common) for row in rows[evenly(len(rows), _MOST_MEMBERS)]]
    heading = element("h3", text(f"Cluster {cluster}"))
    return element(
        "article", heading, element("p", text(words)), element("ul", *tiles, class_="tiles"),
        class_="cluster",
    )  # fmt: skip


def _tile(split: Split, row: int, common: int | None) -> str:
    person = int(split.labels["identity"][row])
    if person == UNKNOWN:
        return element("li", picture(split.pixels["image"][row], split.names[row], width=_THUMB))
    odd = common is not None and person != common
    alt = f"person {person}{', not the commonest one' if odd else ''}: {split.names[row]}"
    return element(
        "li",
        picture(split.pixels["image"][row], alt, width=_THUMB, title=split.names[row]),
        element("span", str(person), class_="person", aria_hidden="true"),
        class_="odd" if odd else None,
    )

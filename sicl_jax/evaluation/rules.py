"""What is dropped from the gallery for a query, as a small expression.

A rule speaks of pairs of a query and a gallery image **of the same identity**; images of other
identities are never dropped. Rules combine with `|`, `&` and `~`:

    SAME_CAMERA | SAME_CLOTHES      # The usual cloth-changing test.

An unknown label (-1) is equal to nothing, so a rule `SAME_...` drops nothing for it.
"""

import dataclasses
from collections.abc import Callable
from typing import Self

import numpy as np
from jaxtyping import Bool, Int

from sicl_jax.evaluation.features import UNKNOWN, FeatureSet


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a query and a gallery image of the same identity.

    Attributes:
        query: the queries.
        gallery: the gallery.
        query_rows: (P,) the pairs' rows in `query`.
        gallery_rows: (P,) the pairs' rows in `gallery`.
    """

    query: FeatureSet
    gallery: FeatureSet
    query_rows: Int[np.ndarray, "P"]
    gallery_rows: Int[np.ndarray, "P"]

    def same(self, label: str) -> Bool[np.ndarray, "P"]:
        """Whether both images of each pair bear the same known label."""
        query = getattr(self.query, label)[self.query_rows]
        gallery = getattr(self.gallery, label)[self.gallery_rows]
        return (query == gallery) & (query != UNKNOWN)


@dataclasses.dataclass(frozen=True)
class Rule:
    """A test of pairs: true where the gallery image is dropped for the query.

    Attributes:
        text: the rule in words, for tables and errors.
        labels: names of the labels that it reads.
        drops: from pairs to (P,) bool.
    """

    text: str
    labels: frozenset[str]
    drops: Callable[[Pairs], Bool[np.ndarray, "P"]]

    def __or__(self, other: Self) -> Self:
        return Rule(
            f"({self.text} or {other.text})",
            self.labels | other.labels,
            lambda pairs: self.drops(pairs) | other.drops(pairs),
        )

    def __and__(self, other: Self) -> Self:
        return Rule(
            f"({self.text} and {other.text})",
            self.labels | other.labels,
            lambda pairs: self.drops(pairs) & other.drops(pairs),
        )

    def __invert__(self) -> Self:
        return Rule(f"not {self.text}", self.labels, lambda pairs: ~self.drops(pairs))

    def __str__(self) -> str:
        return self.text


def _same(label: str, word: str) -> Rule:
    return Rule(f"same {word}", frozenset({label}), lambda pairs: pairs.same(label))


NOTHING = Rule("nothing", frozenset(), lambda pairs: np.zeros(len(pairs.query_rows), bool))
SAME_CAMERA = _same("cameras", "camera")
SAME_CLOTHES = _same("clothes", "clothes")
SAME_TRACKLET = _same("tracklets", "tracklet")

STANDARD = SAME_CAMERA
CLOTH_CHANGING = SAME_CAMERA | SAME_CLOTHES
SAME_CLOTHES_ONLY = SAME_CAMERA | ~SAME_CLOTHES
SAME_CAMERA_AND_CLOTHES = SAME_CAMERA & SAME_CLOTHES
RELEASED = SAME_CAMERA | SAME_CLOTHES
"""The published SiCL code's rule, on by default there and applied to every test: beside the
query's camera, its clothes are dropped too. It is the cloth-changing rule; it has a name of its
own because it is also applied to tests that are called standard."""

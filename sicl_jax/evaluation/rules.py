"""What is dropped from the gallery for a query, as a small expression.

A rule speaks of pairs of a query and a gallery image **of the same identity**; images of other
identities stay, unless `of_anyone` has made it a rule about everybody. Rules combine with `|`,
`&` and `~`:

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
    """Pairs of a query and a gallery image.

    Attributes:
        query: The queries.
        gallery: The gallery.
        query_rows: (P,) the pairs' rows in `query`.
        gallery_rows: (P,) the pairs' rows in `gallery`.
    """

    query: FeatureSet
    gallery: FeatureSet
    query_rows: Int[np.ndarray, "P"]
    gallery_rows: Int[np.ndarray, "P"]

    def same(self, label: str) -> Bool[np.ndarray, "P"]:
        """Whether both images of each pair bear the same known label."""
        query = self.query.label(label)[self.query_rows]
        gallery = self.gallery.label(label)[self.gallery_rows]
        return (query == gallery) & (query != UNKNOWN)


@dataclasses.dataclass(frozen=True)
class Rule:
    """A test of pairs: true where the gallery image is dropped for the query.

    Attributes:
        text: The rule in words, for tables and errors.
        labels: Names of the labels that it reads.
        test: From pairs to (P,) bool. Only asked about pairs of one identity, unless the rule is
            about everybody.
        everybody: Whether images of other identities may be dropped, too.
    """

    text: str
    labels: frozenset[str]
    test: Callable[[Pairs], Bool[np.ndarray, "P"]]
    everybody: bool = False

    def drops(self, pairs: Pairs) -> Bool[np.ndarray, "P"]:
        """Which pairs, of whatever identities, are dropped."""
        dropped = self.test(pairs)
        return dropped if self.everybody else dropped & pairs.same("identity")

    def __or__(self, other: Self) -> Self:
        tests = self._tests(other)
        return self._joined(other, "or", lambda pairs: tests[0](pairs) | tests[1](pairs))

    def __and__(self, other: Self) -> Self:
        tests = self._tests(other)
        return self._joined(other, "and", lambda pairs: tests[0](pairs) & tests[1](pairs))

    def __invert__(self) -> Self:
        return dataclasses.replace(
            self, text=f"not {self.text}", test=lambda pairs: ~self.test(pairs)
        )

    def __str__(self) -> str:
        return self.text

    def _tests(self, other: Self) -> tuple[Callable, Callable]:
        """Both tests, restricted to one identity where only one of the two rules is."""
        if self.everybody == other.everybody:
            return self.test, other.test
        return self.drops, other.drops

    def _joined(self, other: Self, word: str, test: Callable) -> Self:
        return Rule(
            f"({self.text} {word} {other.text})",
            self.labels | other.labels,
            test,
            self.everybody or other.everybody,
        )


def of_anyone(rule: Rule) -> Rule:
    """The rule applied to gallery images of every identity, the unknown ones included."""
    return dataclasses.replace(rule, text=f"{rule.text}, whoever it is", everybody=True)


def labelled(label: str, query: int, gallery: int) -> Rule:
    """True where the query's label has the one value and the gallery image's the other."""

    def test(pairs: Pairs) -> Bool[np.ndarray, "P"]:
        of_query = pairs.query.label(label)[pairs.query_rows] == query
        return of_query & (pairs.gallery.label(label)[pairs.gallery_rows] == gallery)

    return Rule(f"{label} {gallery} for queries of {label} {query}", frozenset({label}), test)


def _same(label: str) -> Rule:
    return Rule(f"same {label}", frozenset({label}), lambda pairs: pairs.same(label))


NOTHING = Rule("nothing", frozenset(), lambda pairs: np.zeros(len(pairs.query_rows), bool))
SAME_CAMERA = _same("camera")
SAME_CLOTHES = _same("clothes")
SAME_TRACKLET = _same("tracklet")

STANDARD = SAME_CAMERA
CLOTH_CHANGING = SAME_CAMERA | SAME_CLOTHES
SAME_CLOTHES_ONLY = SAME_CAMERA | ~SAME_CLOTHES
SAME_CAMERA_AND_CLOTHES = SAME_CAMERA & SAME_CLOTHES
RELEASED = SAME_CAMERA | SAME_CLOTHES
"""The published SiCL code's rule, on by default there and applied to every test: beside the
query's camera, its clothes are dropped too. It is the cloth-changing rule; it has a name of its
own because it is also applied to tests that are called standard."""

SAME_POSITION = Rule(
    "the query's own position", frozenset(), lambda pairs: pairs.query_rows == pairs.gallery_rows
)
"""What the published CSSC code drops on Celeb-reID, where it takes an image's position in its
folder's listing for its camera (`docs/methods/cssc.md`, section 6)."""

SYSU_MM01 = of_anyone(labelled("camera", query=3, gallery=2))
"""SYSU-MM01's cameras 2 and 3 stand in the same room (`docs/methods/cclnet.md`, section 8)."""

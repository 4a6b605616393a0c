"""What a picture in a ranked gallery is to the query, told by colour and by shape.

Colours are Okabe and Ito's, which people with any colour vision tell apart; the shapes tell the
same to those who see none.
"""

import enum

from sicl_jax.evaluation.galleries import NONE, RankedGalleries


class Mark(enum.Enum):
    """What a gallery image is to the query."""

    OTHER_CLOTHES = "same person, other clothes"
    SAME_CLOTHES = "same person, same clothes"
    SAME_PERSON = "same person"
    OTHER_PERSON = "another person"
    UNKNOWN = "person unknown"


COLORS = {
    Mark.OTHER_CLOTHES: "#009E73",
    Mark.SAME_CLOTHES: "#009E73",
    Mark.SAME_PERSON: "#009E73",
    Mark.OTHER_PERSON: "#D55E00",
    Mark.UNKNOWN: "#7A7A7A",
}


def mark_of(
    ranked: RankedGalleries, query: int, rank: int, *, clothes_known: bool, identity_known: bool
) -> Mark | None:
    """The mark of one place in a ranked gallery; None where nothing is left to show.

    Args:
        ranked: Ranked galleries.
        query: Which of its queries, by its place there.
        rank: Which place, from 0.
        clothes_known: Whether both images' clothes are known.
        identity_known: Whether the gallery image's identity is known.
    """
    if ranked.rows[query, rank] == NONE:
        return None
    if not identity_known:
        return Mark.UNKNOWN
    if not ranked.matches[query, rank]:
        return Mark.OTHER_PERSON
    if not clothes_known:
        return Mark.SAME_PERSON
    return Mark.SAME_CLOTHES if ranked.same_clothes[query, rank] else Mark.OTHER_CLOTHES


def marks(query, gallery, ranked: RankedGalleries, chosen) -> list[list[Mark | None]]:
    """The marks of all places of some queries' ranked galleries.

    Args:
        query: Labels of the queries (a split or a feature set).
        gallery: Labels of the gallery.
        ranked: Their ranked galleries.
        chosen: (R,) the queries' rows.
    """
    table = []
    for place, q in enumerate(chosen):
        line = []
        for rank, row in enumerate(ranked.rows[place]):
            known = min(query.labels["clothes"][q], gallery.labels["clothes"][row]) >= 0
            line.append(
                mark_of(
                    ranked,
                    place,
                    rank,
                    clothes_known=known,
                    identity_known=gallery.labels["identity"][row] >= 0,
                )
            )
        table.append(line)
    return table

"""Files changed at random, as hypothesis strategies."""

import sys

from hypothesis import strategies as st

_ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.integers(-9, 99)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@st.composite
def changed_json(draw, value):
    """A JSON value with one part of it replaced or left out."""
    if not value or not isinstance(value, dict | list) or draw(st.integers(0, 4)) == 0:
        return draw(_ANY_JSON)
    key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
    copy = value.copy()
    if draw(st.integers(0, 3)) == 0:
        del copy[key]
    else:
        copy[key] = draw(changed_json(copy[key]))
    return copy


@st.composite
def changed_bytes(draw, content: bytes):
    """Other bytes in one place, or from one place on nothing else."""
    place = draw(st.integers(0, len(content)))
    more = draw(st.binary(max_size=20))
    rest = content[place + len(more) :] if draw(st.booleans()) else b""
    return content[:place] + more + rest


class Call:
    """A pickle of it ends the process when it is opened."""

    def __reduce__(self):
        return sys.exit, ("unpickled",)

"""The compiled pass over a row of distances that tells how many images precede each member.

Members are the gallery images of the query's identity: some tens or hundreds, sorted. They cut
the line of distances into gaps, and each gallery image is counted in its gap. Searching the gap
of each image among the members costs a branch that no processor predicts. So the span from the
first member to the last is divided into equal buckets, of which most hold no member: an image
in such a bucket is counted with the bucket, and only the few others are searched for.
"""

import functools

import numpy as np

from sicl_jax.native import compiled

BUCKETS = 2048
CHUNK = 4096  # Images between two looks at the searched-for ones; fits the first-level cache.
_inlined = functools.partial(compiled, inline="always")


@compiled
def place_members(
    block, order, starts, offsets, together, rows, nearer, steps
):  # pragma: no cover - compiled
    """Sorts each query's members by distance and counts the other images before each.

    Args:
        block: (B, G) float32 distances.
        order: (G,) int32 gallery rows sorted by identity, then by row.
        starts: (B,) int64 where each query's members begin in `order`.
        offsets: (B + 1,) int64 where each query's members begin and end in the outputs.
        together: Whether images at the same distance make one step, all of them before each
            other; else they stand in the gallery's order.
        rows: (P,) int32, filled with the members' gallery rows, nearest first; members at the
            same distance in the gallery's order.
        nearer: (P,) int32, filled with the number of images of other identities before each.
        steps: (P,) int32, filled with the number of members up to each, it and its step included.
    """
    for q in range(block.shape[0]):
        low = offsets[q]
        count = offsets[q + 1] - low
        if count == 0:
            continue
        members = order[starts[q] : starts[q] + count]
        # Members come in ascending order, so a stable sort leaves ties in the gallery's order.
        members = members[np.argsort(block[q][members], kind="mergesort")]
        keys = block[q][members]
        gaps = _count_in_gaps(block[q], keys, members, together)
        before = 0
        step = 0
        for i in range(count):
            before += gaps[i]
            if step <= i:
                step = i + 1
                while together and step < count and keys[step] == keys[i]:
                    step += 1
            rows[low + i] = members[i]
            steps[low + i] = step
            # Members have been counted as well: those of the whole step, or those before this one.
            nearer[low + i] = before - (step if together else i)


@compiled
def _count_in_gaps(distances, keys, members, together):  # pragma: no cover - compiled
    """Gallery images in the gap before each member, the member before it included.

    Args:
        distances: (G,) float32.
        keys: (M,) the members' distances, ascending.
        members: (M,) their gallery rows.
        together: As for `place_members`; all images of a step are in the gap before it.

    Returns:
        (M + 1,) int32; the last gap is the one behind the last member.
    """
    scale = np.float32(0)
    if keys[-1] > keys[0]:
        scale = np.float32(BUCKETS) / (keys[-1] - keys[0])
    crowded, first = _fill_buckets(keys, scale)
    gaps = np.zeros(len(keys) + 1, np.int32)
    in_bucket = np.zeros(BUCKETS + 2, np.int32)
    buckets = np.empty(CHUNK, np.uint16)
    waiting = np.empty(CHUNK + 1, np.uint16)
    for start in range(0, len(distances), CHUNK):
        chunk = distances[start : start + CHUNK]
        for j in range(len(chunk)):  # A loop of its own, so that it becomes vector code.
            buckets[j] = _bucket(chunk[j], keys[0], scale)
        # Where to write next depends on the image, whether to write does not: no branch. Unsigned
        # indices spare the test for negative ones.
        waits = np.uint64(0)
        for j in range(len(chunk)):
            bucket = np.uint64(buckets[j])
            in_bucket[bucket] += 1
            waiting[waits] = j
            waits += np.uint64(crowded[bucket])
        for i in range(waits):
            j = np.int64(waiting[i])
            bucket = np.int64(buckets[j])
            row = np.int64(-1) if together else start + j
            gap = _search(keys, members, chunk[j], row, first[bucket], first[bucket + 1])
            gaps[gap] += 1
    for bucket in range(BUCKETS + 2):
        if not crowded[bucket]:
            gaps[first[bucket]] += in_bucket[bucket]
    return gaps


@compiled
def _fill_buckets(keys, scale):  # pragma: no cover - compiled
    """Which buckets hold members, and the first member at or behind the start of each bucket."""
    crowded = np.zeros(BUCKETS + 2, np.bool_)
    first = np.zeros(BUCKETS + 3, np.int32)
    for key in keys:
        bucket = np.int64(_bucket(key, keys[0], scale))
        crowded[bucket] = True
        first[bucket + 1] += 1
    for bucket in range(BUCKETS + 2):
        first[bucket + 1] += first[bucket]
    return crowded, first


@_inlined
def _bucket(distance, lowest, scale):  # pragma: no cover - compiled
    """The bucket of a distance: 0 before the first member, then 1, 2, ... to `BUCKETS` + 1.

    It never falls as the distance grows, rounding included, and that is all that counting needs.
    """
    place = (distance - lowest) * scale + np.float32(1)
    place = place if place > np.float32(0) else np.float32(0)
    place = place if place < np.float32(BUCKETS + 1) else np.float32(BUCKETS + 1)
    return np.uint16(np.int32(place))


@_inlined
def _search(keys, members, distance, row, low, high):  # pragma: no cover - compiled
    """The first member from `low` on, before `high`, that stands behind gallery image `row`.

    Of images at the same distance the one with the lower row stands before; an image that is a
    member is in the gap behind itself. Row -1 stands before all others at its distance.
    """
    while low < high:
        middle = (low + high) >> 1
        key = keys[middle]
        if key < distance or (key == distance and members[middle] <= row):
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def count_persons_before(
    block, firsts, own, persons, num_persons, counts
):  # pragma: no cover - compiled
    """Counts the persons, the query's own left out, with an image before its first match.

    Args:
        block: (B, G) float32 distances; the largest there is for images that are dropped.
        firsts: (B,) int64 gallery row of each query's first match, -1 for none.
        own: (B,) int64 the person that each query shows, as in `persons`.
        persons: (G,) int64 from 0, a number of its own for each image of unknown identity.
        num_persons: More than any of them.
        counts: (B,) int64, filled; 0 where there is no match.
    """
    seen = np.full(num_persons, -1, np.int64)
    for q in range(block.shape[0]):
        counts[q] = 0
        first = firsts[q]
        if first < 0:
            continue
        key = block[q, first]
        for g in range(block.shape[1]):
            person = persons[g]
            if person == own[q] or seen[person] == q:
                continue
            distance = block[q, g]
            if distance < key or (distance == key and g < first):
                seen[person] = q
                counts[q] += 1

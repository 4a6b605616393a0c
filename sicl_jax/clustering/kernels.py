"""Inner loops of the k-reciprocal encoding and the Jaccard pass, compiled by numba (`native.py`).

Every kernel works on a range of rows and releases the GIL, so blocks of rows run side by side in
plain Python threads (`blocks.py`): no second OpenMP runtime meets those of faiss and XLA.
Scratch arrays (`seen`) mark what the current row has touched by its number, and so never
need clearing. Neighbour lists may end in -1 where fewer were found.
"""

import functools

import numpy as np

from sicl_jax.native import compiled

# Lets the sum of a dot product be split over SIMD lanes; infinities and NaNs keep their meaning.
compiled_reassociating = functools.partial(compiled, fastmath={"reassoc", "contract"})


@compiled_reassociating
def _dot(a, b):
    total = np.float32(0)
    for d in range(a.shape[0]):
        total += a[d] * b[d]
    return total


@compiled
def put_self_first(indices, similarities, first, last):
    """Sorts each list by falling similarity, then rising index, with the row itself in front.

    A row that was not found for itself (more duplicates than k) replaces its last neighbour.
    """
    k = indices.shape[1]
    for i in range(first, last):
        own = -1
        for a in range(k):
            if indices[i, a] == i:
                own = a
                break
        if own < 0:
            own = k - 1
        for a in range(own, 0, -1):
            indices[i, a] = indices[i, a - 1]
            similarities[i, a] = similarities[i, a - 1]
        indices[i, 0] = i
        similarities[i, 0] = np.float32(1)
        for a in range(2, k):
            j, s = indices[i, a], similarities[i, a]
            b = a
            while (
                b > 1
                and j >= 0
                and (
                    indices[i, b - 1] < 0
                    or s > similarities[i, b - 1]
                    or (s == similarities[i, b - 1] and j < indices[i, b - 1])
                )
            ):
                indices[i, b], similarities[i, b] = indices[i, b - 1], similarities[i, b - 1]
                b -= 1
            indices[i, b], similarities[i, b] = j, s


@compiled
def merge_top(products, rows, candidates, indices, values):
    """Merges products[r, c] of rows[r] and candidates[c] into the best found for each row.

    `values` is sorted, largest first; -inf where nothing has been found.
    """
    k = indices.shape[1]
    for r in range(rows.shape[0]):
        i = rows[r]
        for c in range(candidates.shape[0]):
            s = products[r, c]
            if s > values[i, k - 1]:
                a = k - 1
                while a > 0 and s > values[i, a - 1]:
                    values[i, a], indices[i, a] = values[i, a - 1], indices[i, a - 1]
                    a -= 1
                values[i, a], indices[i, a] = s, candidates[c]


@compiled
def reciprocal(neighbors, width, sets, sizes, first, last):
    """R(i, width - 1): those among i's first `width` that have i among their own first `width`."""
    for i in range(first, last):
        size = 0
        for a in range(width):
            j = neighbors[i, a]
            if j < 0:
                break
            for b in range(width):
                if neighbors[j, b] == i:
                    sets[i, size] = j
                    size += 1
                    break
        sizes[i] = size


@compiled
def _similarity(features, neighbors, similarities, i, j):
    """f_i . f_j, read from either's neighbour list where the search has computed it already."""
    for a in range(neighbors.shape[1]):
        if neighbors[i, a] == j:
            return similarities[i, a]
    for a in range(neighbors.shape[1]):
        if neighbors[j, a] == i:
            return similarities[j, a]
    return _dot(features[i], features[j])


@compiled
def expand(sets, sizes, half_sets, half_sizes, first, last, in_set, in_expansion, ends, indices):
    """The expanded k-reciprocal sets of rows first..last, one after another.

    A member's own half set joins if more than 2/3 of it lies in the unexpanded set.
    """
    end = 0
    for i in range(first, last):
        for a in range(sizes[i]):
            j = sets[i, a]
            in_set[j] = i
            in_expansion[j] = i
            indices[end] = j
            end += 1
        for a in range(sizes[i]):
            j = sets[i, a]
            shared = 0
            for b in range(half_sizes[j]):
                if in_set[half_sets[j, b]] == i:
                    shared += 1
            if 3 * shared > 2 * half_sizes[j]:
                for b in range(half_sizes[j]):
                    c = half_sets[j, b]
                    if in_expansion[c] != i:
                        in_expansion[c] = i
                        indices[end] = c
                        end += 1
        ends[i - first] = end


@compiled
def weigh_by_similarity(features, neighbors, similarities, first, last, ends, indices, values):
    """Weights exp(-(2 - 2 f_i . f_j)) of the members of rows first..last, of sum one each."""
    start = 0
    for i in range(first, last):
        end = ends[i - first]
        total = 0.0
        for p in range(start, end):
            s = _similarity(features, neighbors, similarities, i, indices[p])
            weight = np.exp(2.0 * s - 2.0)
            values[p] = weight
            total += weight
        for p in range(start, end):
            values[p] /= total
        start = end


@compiled_reassociating
def weigh_by_distance(points, farthest, first, last, ends, indices, values):
    """Weights exp(-(|p_i - p_j|^2 / farthest_i)^2) of the members of rows first..last, as above."""
    start = 0
    for i in range(first, last):
        end = ends[i - first]
        total = np.float32(0)
        for p in range(start, end):
            square = np.float32(0)
            for d in range(points.shape[1]):
                difference = points[i, d] - points[indices[p], d]
                square += difference * difference
            values[p] = np.exp(-((square / farthest[i]) ** 2))
            total += values[p]
        for p in range(start, end):
            values[p] /= total
        start = end


@compiled
def average(
    neighbors, k2, row_starts, columns, weights, first, last, seen, sums, ends, indices, values
):
    """Rows of V after averaging: the mean of V over i's first `k2` neighbours, itself included."""
    end = 0
    for i in range(first, last):
        start = end
        found = 0
        for a in range(k2):
            j = neighbors[i, a]
            if j < 0:
                break
            found += 1
            for p in range(row_starts[j], row_starts[j + 1]):
                c = columns[p]
                if seen[c] != i:
                    seen[c] = i
                    sums[c] = 0
                    indices[end] = c
                    end += 1
                sums[c] += weights[p]
        for p in range(start, end):
            values[p] = sums[indices[p]] / np.float32(found)
        ends[i - first] = end


@compiled
def transpose(row_starts, columns, weights, column_starts, rows, column_weights, positions):
    """Columns of a CSR matrix, rows rising in each; `positions[p]` says where entry p went."""
    for p in range(columns.shape[0]):
        column_starts[columns[p] + 1] += 1
    for c in range(column_starts.shape[0] - 1):
        column_starts[c + 1] += column_starts[c]
    filled = column_starts[:-1].copy()
    for i in range(row_starts.shape[0] - 1):
        for p in range(row_starts[i], row_starts[i + 1]):
            c = columns[p]
            q = filled[c]
            rows[q] = i
            column_weights[q] = weights[p]
            positions[p] = q - column_starts[c]
            filled[c] = q + 1


@compiled
def overlaps(
    row_starts,
    columns,
    weights,
    column_starts,
    rows,
    column_weights,
    positions,
    min_similarity,
    first,
    last,
    seen,
    sums,
    touched,
    ends,
    indices,
    values,
):
    """Jaccard similarities m / (2 - m) of rows first..last with every later row.

    Stops before a row that might not fit into `indices`.

    Returns:
        The row after the last one that was done.
    """
    end = 0
    for i in range(first, last):
        count = 0
        for p in range(row_starts[i], row_starts[i + 1]):
            c, v = columns[p], weights[p]
            for q in range(column_starts[c] + positions[p] + 1, column_starts[c + 1]):
                j = rows[q]
                if seen[j] != i:
                    seen[j] = i
                    sums[j] = 0
                    touched[count] = j
                    count += 1
                sums[j] += min(v, column_weights[q])
        if end + count > indices.shape[0]:
            for t in range(count):
                seen[touched[t]] = -1
            return i
        for t in range(count):
            j = touched[t]
            s = min(sums[j] / (np.float32(2) - sums[j]), np.float32(1))
            if s >= min_similarity:
                indices[end] = j
                values[end] = s
                end += 1
        ends[i - first] = end
    return last


@compiled
def mirror(starts, indices, values, full_starts, full_indices, full_values):
    """The symmetric matrix with ones on its diagonal whose upper triangle is given, rows sorted.

    Both are CSR; the upper triangle needs no order within its rows. `full_starts` comes as zeros.
    """
    num_rows = starts.shape[0] - 1
    for i in range(num_rows):
        full_starts[i + 1] += starts[i + 1] - starts[i] + 1
        for p in range(starts[i], starts[i + 1]):
            full_starts[indices[p] + 1] += 1
    for i in range(num_rows):
        full_starts[i + 1] += full_starts[i]
    # Rows rise, so each row's part below the diagonal is written in order, and then, read by
    # rising row in its turn, gives the part above in order.
    filled = full_starts[:-1].copy()
    for i in range(num_rows):
        for p in range(starts[i], starts[i + 1]):
            q = filled[indices[p]]
            full_indices[q] = i
            full_values[q] = values[p]
            filled[indices[p]] = q + 1
    diagonal = filled.copy()
    for i in range(num_rows):
        q = filled[i]
        full_indices[q] = i
        full_values[q] = np.float32(1)
        filled[i] = q + 1
    for i in range(num_rows):
        for p in range(full_starts[i], diagonal[i]):
            q = filled[full_indices[p]]
            full_indices[q] = i
            full_values[q] = full_values[p]
            filled[full_indices[p]] = q + 1


@compiled
def sums_within(
    row_starts,
    columns,
    weights,
    column_starts,
    rows,
    column_weights,
    labels,
    tight_labels,
    needed,
    first,
    last,
    seen,
    sums,
    touched,
    same,
    differing,
):
    """Sums of Jaccard similarities over a sample's own clusters.

    `same[i]` over the j != i that share i's label, `differing[i]` over the j that share exactly
    one of label and tight label; rows not `needed` are left alone.
    """
    for i in range(first, last):
        if not needed[i]:
            continue
        count = 0
        for p in range(row_starts[i], row_starts[i + 1]):
            c, v = columns[p], weights[p]
            for q in range(column_starts[c], column_starts[c + 1]):
                j = rows[q]
                if labels[j] != labels[i] and tight_labels[j] != tight_labels[i]:
                    continue
                if seen[j] != i:
                    seen[j] = i
                    sums[j] = 0
                    touched[count] = j
                    count += 1
                sums[j] += min(v, column_weights[q])
        for t in range(count):
            j = touched[t]
            if j == i:
                continue
            s = min(sums[j] / (np.float32(2) - sums[j]), np.float32(1))
            if labels[j] == labels[i]:
                same[i] += s
            if (labels[j] == labels[i]) != (tight_labels[j] == tight_labels[i]):
                differing[i] += s

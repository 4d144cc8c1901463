"""Where to clip so that a quantized histogram diverges least."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.blocks import block_slices

_MOST_BINS = 2048
_LEAST_BINS_A_CODE = 8
_CANDIDATES = 128


def least_divergent_threshold(
    blocks: NDArray[np.float32], peak: NDArray[Any], largest_code: int
) -> NDArray[np.float64]:
    """The threshold of the least Kullback-Leibler divergence.

    Args:
        blocks: float32 array of shape `(blocks, size)`.
        peak: float64 array of shape `(blocks,)`, the largest magnitudes.
        largest_code: Integer. The codes of magnitudes go from 0 to it.

    Returns:
        float64 array of shape `(blocks,)`: thresholds as parts of the peak,
        1 where there are too few values for a histogram, or only zeros.
    """
    count = _bin_count(blocks.shape[1])
    threshold = np.ones(len(blocks))
    if count < _LEAST_BINS_A_CODE * (largest_code + 1):
        return threshold
    ends = _ends(count, largest_code)
    edges = _code_edges(ends, largest_code)
    widest = (len(blocks), max(edges.size, blocks.shape[1]))
    for part in block_slices(widest):
        counts = _histograms(blocks[part], peak[part], count)
        divergence = _divergences(counts, ends, edges)
        threshold[part] = ends[divergence.argmin(axis=1)] / count
    return threshold


def _bin_count(size: int) -> int:
    """As many bins as values, rounded down to a power of two."""
    return min(1 << size.bit_length() >> 1, _MOST_BINS)


def _histograms(
    blocks: NDArray[np.float32], peak: NDArray[Any], count: int
) -> NDArray[np.float64]:
    """How many magnitudes above zero fall into each bin."""
    divisor = np.where(peak > 0, peak, 1.0)[:, None]
    places = (np.abs(blocks) / divisor * count).astype(np.intp)
    np.minimum(places, count - 1, out=places)
    places += count * np.arange(len(blocks))[:, None]
    found = np.bincount(places[blocks != 0], minlength=len(blocks) * count)
    return found.reshape(len(blocks), count).astype(np.float64)


def _ends(count: int, largest_code: int) -> NDArray[np.intp]:
    """Numbers of bins to keep, from all down: among equals the first wins."""
    step = max(1, count // _CANDIDATES)
    least = max(largest_code, count // 16)
    return np.arange(count, least, -step, dtype=np.intp)


def _code_edges(ends: NDArray[np.intp], largest_code: int) -> NDArray[np.intp]:
    """The bins at which codes begin, for each number of bins.

    A bin has the code of its centre, rounded; the last column is the end.
    """
    between = np.arange(largest_code + 1) - 0.5
    starts = np.ceil(between / largest_code * ends[:, None] - 0.5)
    starts = np.maximum(starts, 0).astype(np.intp)
    return np.concatenate([starts, ends[:, None]], axis=1)


def _divergences(
    counts: NDArray[np.float64], ends: NDArray[np.intp], edges: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Divergences of clipped histograms from their quantized forms.

    A clipped one has all that lies beyond in its last bin; in the quantized
    one, the bins of a code that hold anything share its values. All sums over
    bins are differences of cumulative sums.
    """
    running = _sums_before(counts)
    mass = np.diff(running[:, edges], axis=2)
    filled = np.diff(_sums_before(counts > 0)[:, edges], axis=2)
    last = counts[:, ends - 1]
    kept, total = running[:, ends], running[:, -1:]
    beyond = total - kept
    filled[:, :, -1] += (last == 0) & (beyond > 0)
    share = mass / np.maximum(filled, 1)
    mass[:, :, -1] += beyond
    shared = np.sum(mass * np.log(np.where(share > 0, share, 1)), axis=2)
    own = _sums_before(_times_log(counts))[:, ends - 1]
    own += _times_log(last + beyond)
    lost = (share[:, :, -1] == 0) & (mass[:, :, -1] > 0)
    safe = np.maximum(total, 1)
    result = (own - shared) / safe + np.log(np.maximum(kept, 1) / safe)
    return np.where(lost, np.inf, result)


def _sums_before(array: NDArray[Any]) -> NDArray[np.float64]:
    sums = np.zeros((len(array), array.shape[1] + 1))
    np.cumsum(array, axis=1, out=sums[:, 1:])
    return sums


def _times_log(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = counts * np.log(np.maximum(counts, 1))
    return result

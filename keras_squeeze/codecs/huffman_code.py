"""Lengths and numbers of a length-limited canonical Huffman code."""

from __future__ import annotations

import numpy as np

#: No code is longer.
MAX_LENGTH = 15


def limited_lengths(counts: np.ndarray, limit: int = MAX_LENGTH) -> np.ndarray:
    """The code lengths that make data with these counts shortest.

    Package-merge: of the leaves at each depth, and pairs of what lies one
    level deeper, the lightest `2 * n - 2` are taken.

    Args:
        counts: Integer array, how often each symbol occurs; two or more do,
            and at most `2**limit`.
        limit: Integer. The greatest length. Defaults to `MAX_LENGTH`.

    Returns:
        int64 array, 0 for symbols that do not occur.

    Example:
    >>> limited_lengths(np.array([8, 4, 2, 0, 1])).tolist()
    [1, 2, 3, 0, 3]
    >>> limited_lengths(np.array([8, 4, 2, 1]), limit=2).tolist()
    [2, 2, 2, 2]
    """
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    leaves = counts[order].astype(np.int64)
    packages = np.zeros(0, np.int64)
    levels = []
    for _ in range(limit):
        merged = np.concatenate([leaves, packages])
        place = np.argsort(merged, kind="stable")
        levels.append(place >= leaves.size)
        merged = merged[place]
        packages = merged[: merged.size // 2 * 2].reshape(-1, 2).sum(axis=1)
    lengths = np.zeros(counts.size, np.int64)
    taken = 2 * leaves.size - 2
    for is_package in reversed(levels):
        pairs = int(np.count_nonzero(is_package[:taken]))
        lengths[order[: taken - pairs]] += 1
        taken = 2 * pairs
    return lengths


def canonical_codes(lengths: np.ndarray) -> np.ndarray:
    """The code of each symbol as a number of `lengths` bits, int64."""
    order = _canonical_order(lengths)
    codes = np.zeros(lengths.size, np.int64)
    sizes = 1 << MAX_LENGTH - lengths[order]
    codes[order] = np.cumsum(sizes) - sizes
    codes_of: np.ndarray = codes >> MAX_LENGTH - lengths
    return codes_of


def decoding_table(lengths: np.ndarray) -> tuple[np.ndarray, int]:
    """What the next bits mean.

    Args:
        lengths: Integer array of a complete code.

    Returns:
        int64 array with `16 * symbol + length` for all values of the next
        bits, and how many bits these are.
    """
    width = int(lengths.max())
    order = _canonical_order(lengths)
    entries = 16 * order + lengths[order]
    return np.repeat(entries, 1 << width - lengths[order]), width


def _canonical_order(lengths: np.ndarray) -> np.ndarray:
    order = np.argsort(lengths, kind="stable")
    return order[lengths[order] > 0]

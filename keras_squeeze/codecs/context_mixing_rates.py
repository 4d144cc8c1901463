"""What levels cost in `context_mixing`, for quantizers that weigh bits."""

from __future__ import annotations

import numpy as np

from keras_squeeze.codecs import context_mixing_fit as fit
from keras_squeeze.codecs import context_mixing_tables as tables
from keras_squeeze.codecs import kernel_geometry
from keras_squeeze.codecs.context_mixing_model import Model
from keras_squeeze.codecs.trellis import Trellis, next_states

# The prior counts as much as so many levels seen in a class.
_PRIOR_COUNT = 24.0
_SIGN_BITS = 1.0
_MOST_LEVELS = 512


def rate_tables(
    codes: np.ndarray,
    trellis: Trellis | None = None,
    geometry: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Estimates the bits that the adaptive model spends on every level.

    A weight's class is the quarter octave of the magnitude expected of it: the
    product of its channel's and its input's (and tap's) mean magnitude, over
    the mean of all. In each class the model starts with a parametric prior and
    follows what it sees; so do these tables.

    Args:
        codes: Integer array, codes of a tensor not all zero.
        trellis: Optional `Trellis`; codes are then taken for its
            reconstruction points.
        geometry: Optional string, a kind of `kernel_geometry.KINDS`. Defaults
            to the trellis' own, or else the likeliest for the shape.

    Returns:
        A pair: the class of every weight, uint8 array of the canonical shape
        `(channels, taps, inputs)`; and the bits, float32 array of shape
        `(classes, 2, levels)`, of a level `k` on the grids `Q0` and `Q1`, the
        sign included. Without a trellis both grids are the same.

    Example:
    >>> import numpy as np
    >>> codes = np.arange(-32, 32).reshape(8, 8) // 8
    >>> classes, bits = rate_tables(codes)
    >>> classes.shape, bits.shape[1]
    ((8, 1, 8), 2)
    """
    kind = geometry or (None if trellis is None else trellis.geometry)
    kind = kind or kernel_geometry.default_kind(codes.shape)
    layout = kernel_geometry.geometry_of(codes.shape, kind)
    canonical = kernel_geometry.to_canonical(codes, layout).astype(np.int64)
    sizes = np.abs(canonical)
    model = fit.fit_model(codes, 0, trellis=trellis, pruned=False)
    classes = _scale_classes(sizes, model)
    grids, levels = _grids_and_levels(sizes, trellis)
    count = min(2 * int(levels.max()) + 4, _MOST_LEVELS)
    bits = _prior_bits(model, count)
    return classes, _adapted(bits, classes, grids, levels)


def _scale_classes(sizes: np.ndarray, model: Model) -> np.ndarray:
    mean = sizes.mean()
    weak = 0.05 * mean
    rows = sizes.mean((1, 2), keepdims=True) + weak
    columns = sizes.mean(0, keepdims=True) + weak
    if sizes.shape[1] > 1:
        taps = sizes.mean((0, 2), keepdims=True) + weak
        columns = (sizes.mean((0, 1), keepdims=True) + weak) * taps / mean
    scale = rows * columns / mean
    classes = np.floor(4 * (np.log2(scale) + tables.SCALE_OCTAVES))
    classes = classes.clip(0, model.classes - 1)
    return np.broadcast_to(classes, sizes.shape).astype(np.uint8)


def _grids_and_levels(
    sizes: np.ndarray, trellis: Trellis | None
) -> tuple[np.ndarray, np.ndarray]:
    """The grid of every weight and its level's magnitude."""
    grids = np.zeros(sizes.shape, np.uint8)
    if trellis is None:
        return grids, sizes
    machine = next_states(trellis.states)
    flat = sizes.reshape(len(sizes), -1)
    out, levels = grids.reshape(flat.shape), np.empty_like(flat)
    states = np.zeros(min(trellis.chains, len(sizes)), np.uint8)
    for first in range(0, len(flat), states.size):
        rows = flat[first : first + states.size]
        now = states[: len(rows)]
        for place in range(flat.shape[1]):
            odd = now & 1
            level = rows[:, place] + odd >> 1
            out[first : first + len(rows), place] = odd
            levels[first : first + len(rows), place] = level
            now = machine[now, level & 1]
        states[: len(rows)] = now
    return grids, levels.reshape(sizes.shape)


def _prior_bits(model: Model, count: int) -> np.ndarray:
    """The bits of levels by the prior, of shape `(classes, 2, count)`."""
    levels = np.arange(count + 1, dtype=np.int64)
    means = tables.class_means(model.buckets, 1, 0)[:, None]
    grids: list[int | None] = [0, 1] if model.states else [None, None]
    parts = []
    for grid in grids:
        edges = tables.double_edges(levels, grid, 0)
        above = tables.survive(edges, means).astype(np.float64)
        chance = (above[:, :-1] - above[:, 1:]) / above[:, :1]
        bits = -np.log2(np.maximum(chance, 2.0**-24))
        parts.append(bits + _SIGN_BITS * (levels[:-1] > 0))
    return np.stack(parts, axis=1)


def _adapted(
    bits: np.ndarray,
    classes: np.ndarray,
    grids: np.ndarray,
    levels: np.ndarray,
) -> np.ndarray:
    """Blends the prior with what was counted in every class."""
    count = bits.shape[2]
    signs = _SIGN_BITS * (np.arange(count) > 0)
    prior = 2.0 ** (signs - bits)
    index = classes.astype(np.int64) * 2 + grids
    index = index * count + np.minimum(levels, count - 1)
    seen = np.bincount(index.reshape(-1), minlength=bits.size)
    seen = seen.reshape(bits.shape).astype(np.float64)
    total = seen.sum(2, keepdims=True)
    chance = (seen + _PRIOR_COUNT * prior) / (total + _PRIOR_COUNT)
    return np.asarray(signs - np.log2(chance), np.float32)

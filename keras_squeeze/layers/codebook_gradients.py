"""What the levels of a codebook receive from the weights that share them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_squeeze.layers.codebook_intervals import look_up
from keras_squeeze.layers.codebook_levels import ascending_levels, of_levels
from keras_squeeze.layers.codebook_memberships import (
    memberships,
    ramps,
    scaled,
    unscaled,
)
from keras_squeeze.layers.fused_operations import fused, runs_loops

# A strip of weights, and the sums of so many levels over it, stay in the
# processor's first cache.
_STRIP = 1024
_MOST_LEVELS = 32


def level_sums(
    size: int, levels: int, rows_shape: tuple[int, ...]
) -> Callable[..., Any]:
    """The function that sums gradients up by levels.

    Args:
        size: Integer. The number of weights.
        levels: Integer. The number of levels of a row.
        rows_shape: Tuple of integers: the shape in which one value for each
            row of the codebook broadcasts against the weights.

    Returns:
        Callable `(received, weights, scale, codebook, unit, hardness,
        digits)`: gradients of the weights, and the arguments of
        `share_levels`. It gives a tensor of the shape of the codebook: for
        each level the sum over the weights by their memberships.
    """
    if levels <= _MOST_LEVELS and runs_loops(size):
        by_strips = fused(_sum_by_strips, size)
        return lambda *given: by_strips(*given, rows_shape)
    split = fused(_split, size)
    rows = math.prod(rows_shape)
    places = _places(rows, levels, rows_shape)

    def by_place(*given: Any) -> Any:
        lower, upper, place, order = split(*given, places)
        sums = _sum_by_place(lower, place, places.size)
        sums = sums + _sum_by_place(upper, place + 1, places.size)
        codebook = given[3]
        return of_levels(ops.reshape(sums, codebook.shape), order, codebook)

    return by_place


def _sum_by_strips(
    received: Any,
    weights: Any,
    scale: Any,
    codebook: Any,
    unit: Any,
    hardness: Any,
    digits: int,
    rows_shape: tuple[int, ...],
) -> Any:
    """Each ramp's sum in one pass: a level's is that of its own less the next.

    A strip is so many values of each row of the codebook; the gradients of
    all ramps are added up strip by strip.
    """
    rows = math.prod(rows_shape)
    levels, order = ascending_levels(codebook, unit, digits, rows_shape)
    received = _strips(scaled(received, scale), rows_shape)
    weights = _strips(unscaled(weights, scale), rows_shape)
    steps, repeats, _ = received.shape
    levels = ops.reshape(levels, (-1, 1, rows))
    ramp = ramps(levels[:-1], levels[1:], hardness)

    def add(step: Any, sums: tuple[Any, Any]) -> tuple[Any, Any]:
        by_ramp, total = sums
        strip = received[step]
        shares = memberships(weights[step], *ramp)
        return by_ramp + strip * shares, total + strip

    count = levels.shape[0] - 1
    by_ramp, total = ops.fori_loop(
        0,
        steps,
        add,
        (ops.zeros((count, repeats, rows)), ops.zeros((repeats, rows))),
    )
    above = ops.concatenate([total[None], by_ramp])
    above = ops.sum(above, axis=1)
    beyond = ops.concatenate([above[1:], ops.zeros((1, rows))])
    return of_levels(ops.transpose(above - beyond), order, codebook)


def _strips(values: Any, rows_shape: tuple[int, ...]) -> Any:
    """Values in shape `(steps, repeats, rows)`, zeros at the end."""
    axes = [i for i, size in enumerate(rows_shape) if size > 1]
    rows = math.prod(rows_shape)
    if axes:
        values = ops.moveaxis(values, axes, list(range(-len(axes), 0)))
    values = ops.reshape(values, (-1, rows))
    count = int(values.shape[0])
    repeats = _repeats(count, max(1, _STRIP // rows))
    if count % repeats:
        values = ops.pad(values, ((0, -count % repeats), (0, 0)))
    return ops.reshape(values, (-1, repeats, rows))


def _repeats(count: int, most: int) -> int:
    """A length of strips that needs no padding, if there is a good one."""
    most = min(count, most)
    lengths = range(most, most // 4, -1)
    return next((length for length in lengths if count % length == 0), most)


def _split(
    received: Any,
    weights: Any,
    scale: Any,
    codebook: Any,
    unit: Any,
    hardness: Any,
    digits: int,
    places: Any,
) -> tuple[Any, Any, Any, Any]:
    """What each weight gives to both its levels, and the lower one's place.

    And the order of the levels.
    """
    levels, order = ascending_levels(codebook, unit, digits, places.shape[1:])
    received, weights = scaled(received, scale), unscaled(weights, scale)
    low, high, place = look_up(
        weights, levels[1:-1], levels[:-1], levels[1:], places[:-1]
    )
    upper = received * memberships(weights, *ramps(low, high, hardness))
    place = ops.broadcast_to(place, weights.shape)
    return received - upper, upper, place, order


def _places(
    rows: int, levels: int, rows_shape: tuple[int, ...]
) -> NDArray[np.int32]:
    """Where each level stands in the flattened codebook, levels first."""
    places = np.arange(rows * levels, dtype=np.int32).reshape(rows, levels)
    return places.T.reshape(levels, *rows_shape)


def _sum_by_place(values: Any, places: Any, count: int) -> Any:
    flat, places = ops.reshape(values, (-1,)), ops.reshape(places, (-1,))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # A tenth of the time of a segment sum.
        return tf.math.bincount(
            places, flat, minlength=count, maxlength=count, dtype=flat.dtype
        )
    return ops.segment_sum(flat, places, num_segments=count)

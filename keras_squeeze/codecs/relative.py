"""Codecs of an array against another one: what changed, and nothing else.

They are no `Codec`s: without the array that was coded against nothing can be
decoded. An increment's manifest names them where a whole file names a codec:

- `{"id": "same"}`: no bytes, the array is the other one;
- `{"id": "difference", "codec": ...}`: what that codec writes for the
  difference, as signed integers of the same width, taken modulo their range;
- `{"id": "float_residual"}`: what `float_residual` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_squeeze.codecs import dtypes

#: Ids that a part's codec may have only in a file that has a base.
SAME, DIFFERENCE, FLOAT_RESIDUAL = "same", "difference", "float_residual"
RELATIVE_IDS = frozenset({SAME, DIFFERENCE, FLOAT_RESIDUAL})


def is_relative(config: Mapping[str, Any]) -> bool:
    """Whether a part's codec needs the base's array.

    Args:
        config: Mapping. A codec's config, with its `"id"`.

    Returns:
        Boolean.

    Example:
    >>> is_relative({"id": "same"}), is_relative({"id": "rans"})
    (True, False)
    """
    found = config.get("id")
    return isinstance(found, str) and found in RELATIVE_IDS


def difference_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of differences: signed, of the same width; of `bool`, bool."""
    return dtype if dtype.kind == "b" else np.dtype(f"i{dtype.itemsize}")


def difference(array: np.ndarray, other: np.ndarray) -> np.ndarray:
    """An array of integers less another one, modulo their range.

    Args:
        array: Array of integers or booleans.
        other: Array of the same shape and dtype.

    Returns:
        Array of `difference_dtype`.

    Example:
    >>> difference(np.array([1, 0], "uint8"), np.array([0, 1], "uint8"))
    array([ 1, -1], dtype=int8)
    """
    if array.dtype.kind == "b":
        changed: np.ndarray = array ^ other
        return changed
    patterns = dtypes.bit_patterns(array) - dtypes.bit_patterns(other)
    signed: np.ndarray = patterns.view(difference_dtype(array.dtype))
    return signed.reshape(array.shape)


def add_difference(found: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Undoes `difference`: the array, of the dtype of `other`."""
    if other.dtype.kind == "b":
        whole: np.ndarray = found ^ other
        return whole
    patterns = dtypes.bit_patterns(found) + dtypes.bit_patterns(other)
    array: np.ndarray = patterns.view(other.dtype)
    return array.reshape(other.shape)

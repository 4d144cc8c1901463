"""Codes that values of a base would have on another tensor's grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_squeeze.quantizers.layout import from_canonical, to_canonical
from keras_squeeze.quantizers.nearest_level import nearest_codes


def predict_codes(
    values: np.ndarray,
    encoding: str,
    parameters: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    dtype: str,
) -> np.ndarray:
    """The codes nearest to values.

    A value over its scale, in float64, goes to the nearest whole number, a
    half to the even one, or to the nearest level of a codebook; what has no
    code goes to the nearest one there is, and NaN to 0.

    Args:
        values: Array of floats.
        encoding: String: `"quantized"`, `"affine"` or `"codebook"`. Codes of
            `"affine"` are relative to their zero point.
        parameters: Mapping. The encoding's parameters.
        arrays: Mapping of role to array: `"scale"`, and perhaps a
            `"codebook"`.
        dtype: String. Name of the codes' dtype.

    Returns:
        Array of that dtype and of the shape of `values`.
    """
    axis = tuple(int(item) for item in parameters["axis"])
    bits = int(parameters["bits"])
    canonical = to_canonical(values.astype(np.float64), axis)
    scale = _spread(arrays["scale"], canonical.shape[1], parameters)
    with np.errstate(all="ignore"):
        ratios = canonical / scale
    ratios[~np.isfinite(ratios)] = 0
    if encoding == "codebook":
        codebook = _codebook(parameters, arrays, bits)
        codes = nearest_codes(ratios, codebook, bits)
    else:
        info = np.iinfo(dtype)
        codes = np.clip(np.rint(ratios), info.min, info.max)
    return from_canonical(codes, values.shape, axis).astype(dtype)


def _spread(
    scale: np.ndarray, count: int, parameters: Mapping[str, Any]
) -> np.ndarray:
    """The scale of every value in the canonical layout."""
    size = parameters.get("group_size") or max(count, 1)
    spread = np.repeat(scale.astype(np.float64), min(size, max(count, 1)), 1)
    return spread[:, :count]


def _codebook(
    parameters: Mapping[str, Any], arrays: Mapping[str, np.ndarray], bits: int
) -> np.ndarray:
    if "codebook" in arrays:
        return arrays["codebook"]
    from keras_squeeze.quantizers.fixed_codebooks import fixed_codebook

    return fixed_codebook(parameters["codebook"], bits)[None]

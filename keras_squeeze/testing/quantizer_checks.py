"""What every quantizer must do, as one callable check."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.quantizers.fixed_codebooks import fixed_codebook
from keras_squeeze.quantizers.layout import to_canonical
from keras_squeeze.quantizers.quantized_tensor import (
    QuantizedTensor,
    codebook_index,
)
from keras_squeeze.quantizers.quantizer import Quantizer
from keras_squeeze.testing.expectations import expect

_TINY = np.finfo(np.float32).tiny


def check_quantizer(quantizer: Quantizer) -> None:
    """Runs a quantizer through the contract; for authors of quantizers.

    Checked are the config round trip, shapes and dtypes, the range of the
    codes, zero points and codebooks as the class announces them, exact zeros,
    extreme but finite weights, repeatability, and the errors raised for
    weights that are not finite and for an importance that does not fit.

    Args:
        quantizer: The `Quantizer` to check.

    Raises:
        AssertionError: If a promise is broken; the message names it.

    Example:
    >>> from keras_squeeze.quantizers import AbsMaxQuantizer
    >>> from keras_squeeze.testing import check_quantizer
    >>> check_quantizer(AbsMaxQuantizer(bits=4))
    """
    _check_config(quantizer)
    for array in _arrays():
        for axis in sorted({(), (0,), (array.ndim - 1,)}):
            _check_encoding(quantizer, array, axis)
    normal = _arrays()[0]
    _check_repeatable(quantizer, normal)
    _check_zeros(quantizer, normal)
    _check_non_finite(quantizer)
    if "importance" in inspect.signature(quantizer.encode).parameters:
        _check_importance(quantizer, normal)


def _arrays() -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    normal = generator.normal(size=(3, 5, 4)).astype(np.float32)
    largest = np.finfo(np.float32).max
    return [
        normal,
        np.array([[3e38, -3e38, 1.0], [1e-45, 0.0, -1e-45]], np.float32),
        np.array([[largest, -largest], [-largest, -largest]], np.float32),
        np.array([1e-45, 2e-38, -1e-38, 1e-30], np.float32),
        -np.abs(normal[0]),
        np.full((2, 3), 0.7, np.float32),
        np.zeros((2, 3), np.float32),
        np.zeros((3, 0), np.float32),
    ]


def _check_config(quantizer: Quantizer) -> None:
    config = json.loads(json.dumps(quantizer.get_config()))
    again = type(quantizer).from_config(config)
    expect(again == quantizer, "an equal quantizer from its config", again)
    expect(repr(again) == repr(quantizer), "an equal repr", repr(again))


def _check_encoding(
    quantizer: Quantizer, array: NDArray[np.float32], axis: tuple[int, ...]
) -> None:
    original = array.copy()
    tensor = quantizer.encode(array, axis=axis)
    expect(np.array_equal(array, original), "an untouched input", array)
    expect(tensor.shape == array.shape, "codes of its shape", tensor.shape)
    _check_codes(quantizer, tensor)
    _check_zero_point(quantizer, tensor)
    _check_codebook(quantizer, tensor)
    _check_scale(quantizer, tensor)
    values = tensor.dequantize()
    expect(values.dtype == np.float32, "float32 values", values.dtype)
    expect(np.isfinite(values).all(), "finite values", values)
    low = np.abs(values[values != 0])
    expect(
        quantizer.learns_codebook or np.all(low >= _TINY),
        "no denormal values",
        low.min(initial=1),
    )
    zeros = values[array == 0]
    expect(
        not _has_zero(quantizer) or not zeros.any(), "zeros to stay zero", zeros
    )


def _check_repeatable(quantizer: Quantizer, array: NDArray[np.float32]) -> None:
    first, again = (quantizer.encode(array, axis=(0,)) for _ in range(2))
    same = np.array_equal(first.codes, again.codes)
    same &= np.array_equal(first.dequantize(), again.dequantize())
    expect(same, "equal results twice", again)


def _has_zero(quantizer: Quantizer) -> bool:
    return bool(
        quantizer.bits > 1 or quantizer.affine or quantizer.learns_codebook
    )


def _check_codes(quantizer: Quantizer, tensor: QuantizedTensor) -> None:
    codes, bits = tensor.codes, quantizer.bits
    dtype = np.int8 if bits <= 8 else np.int16
    expect(codes.dtype == dtype, f"{dtype} codes", codes.dtype)
    expect(tensor.bits == bits, f"{bits} bits", tensor.bits)
    if bits == 1:
        fits = np.abs(codes) == 1
    elif tensor.zero_point is None and tensor.codebook is None:
        fits = np.abs(codes.astype(np.int64)) <= quantizer.largest_code
    else:
        half = 2 ** (bits - 1)
        fits = (codes >= -half) & (codes < half)
    expect(fits.all(), "codes in range", codes)


def _check_zero_point(quantizer: Quantizer, tensor: QuantizedTensor) -> None:
    zero_point = tensor.zero_point
    announced = (zero_point is not None) == quantizer.affine
    expect(announced, f"`affine` {quantizer.affine}", zero_point)
    if zero_point is None:
        return
    expect(zero_point.dtype == np.int16, "int16 zeros", zero_point.dtype)
    half = 2 ** (quantizer.bits - 1)
    fits = (zero_point >= -half) & (zero_point <= max(half - 1, 1))
    expect(fits.all(), "zero points among the codes", zero_point)


def _check_codebook(quantizer: Quantizer, tensor: QuantizedTensor) -> None:
    codebook, name = tensor.codebook, quantizer.codebook_name
    announced = name is not None or quantizer.learns_codebook
    expect((codebook is not None) == announced, "its codebook", codebook)
    if codebook is None:
        return
    expect(codebook.dtype == np.float32, "float32 levels", codebook.dtype)
    expect(np.isfinite(codebook).all(), "finite levels", codebook)
    if name is not None:
        exact = fixed_codebook(name, quantizer.bits)
        expect(np.array_equal(codebook, exact[None]), f"levels {exact}", name)
        return
    rows = quantizer.codebook_rows(len(tensor.scale))
    expect(len(codebook) == rows, f"{rows} codebooks", len(codebook))
    _check_learned_levels(codebook, tensor)


def _check_learned_levels(
    codebook: NDArray[np.float32], tensor: QuantizedTensor
) -> None:
    places = codebook_index(
        to_canonical(tensor.codes, tensor.axis), tensor.bits
    )
    if len(codebook) == 1:
        places = places.reshape(1, -1)
    for levels, row in zip(codebook.astype(np.float64), places, strict=True):
        used = np.unique(row)
        ascending = np.all(np.diff(levels[used]) > 0)
        expect(ascending, "ascending levels of the codes in use", levels)
        unused = np.delete(levels, used)
        expect(not unused.any(), "0 as the level of codes not in use", levels)


def _check_scale(quantizer: Quantizer, tensor: QuantizedTensor) -> None:
    scale = tensor.scale
    expect(scale.dtype == np.float32, "float32 scales", scale.dtype)
    expect(np.all(scale >= 0), "non-negative scales", scale)
    if not quantizer.learns_codebook:
        low = scale.view(np.uint32) & np.uint32(0xFFFF)
        expect(not low.any(), "scales of 8 significant bits", scale)


def _check_zeros(quantizer: Quantizer, array: NDArray[np.float32]) -> None:
    pruned = np.where(np.abs(array) < 0.5, np.float32(0), array)
    pruned[0] = 0
    values = quantizer.encode(pruned, axis=(0,)).dequantize()
    if quantizer.granularity != "per_tensor" or _has_zero(quantizer):
        expect(not values[0].any(), "a channel of zeros to stay", values[0])
    if _has_zero(quantizer):
        kept = values[pruned == 0]
        expect(not kept.any(), "zeros to stay exactly zero", kept)


def _check_importance(quantizer: Any, array: NDArray[np.float32]) -> None:
    importance = np.square(array[::-1])
    for weights in (importance, np.zeros_like(array), importance * 1e-30):
        tensor = quantizer.encode(array, axis=(0,), importance=weights)
        values = tensor.dequantize()
        expect(np.isfinite(values).all(), "finite values", values)
        _check_codes(quantizer, tensor)
    for wrong in (importance[0], -importance - 1, importance * np.nan):
        try:
            quantizer.encode(array, axis=(0,), importance=wrong)
        except SqueezeError:
            continue
        raise AssertionError(
            "Expected SqueezeError for an importance that does not fit. "
            f"Received: no error for values of shape {wrong.shape}"
        )


def _check_non_finite(quantizer: Quantizer) -> None:
    try:
        quantizer.encode(np.array([1.0, np.nan, np.inf]), name="layer/kernel")
    except NonFiniteError as error:
        named = "layer/kernel" in str(error) and "2" in str(error)
        expect(named, "the name and the count in the error", error)
    else:
        raise AssertionError(
            "Expected NonFiniteError for NaN and infinity. Received: no error"
        )

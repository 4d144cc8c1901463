"""What every quantizer must do, as one callable check."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import NonFiniteError
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.quantizer import Quantizer


def check_quantizer(quantizer: Quantizer) -> None:
    """Runs a quantizer through the contract; for authors of quantizers.

    Checked are the config round trip, shapes and dtypes, the range of the
    codes, exact zeros, extreme but finite weights, repeatability, and the
    error raised for weights that are not finite.

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
    generator = np.random.default_rng(0)
    normal = generator.normal(size=(3, 5, 4)).astype(np.float32)
    extreme = np.array([[3e38, -3e38, 1.0], [1e-45, 0.0, -1e-45]], np.float32)
    for array in (normal, extreme, np.zeros((2, 3), np.float32)):
        for axis in ((), (0,), (array.ndim - 1,)):
            _check_encoding(quantizer, array, axis)
    _check_zeros(quantizer, normal)
    _check_non_finite(quantizer)


def _expect(condition: bool, promise: str, received: object) -> None:
    if not condition:
        raise AssertionError(f"Expected {promise}. Received: {received}")


def _check_config(quantizer: Quantizer) -> None:
    config = json.loads(json.dumps(quantizer.get_config()))
    again = type(quantizer).from_config(config)
    _expect(again == quantizer, "an equal quantizer from its config", again)
    _expect(repr(again) == repr(quantizer), "an equal repr", repr(again))


def _check_encoding(
    quantizer: Quantizer, array: NDArray[np.float32], axis: tuple[int, ...]
) -> None:
    original = array.copy()
    tensor = quantizer.encode(array, axis=axis)
    _expect(bool(np.all(array == original)), "an untouched input", array)
    dtype = np.int8 if quantizer.bits <= 8 else np.int16
    _expect(tensor.codes.dtype == dtype, f"{dtype} codes", tensor.codes.dtype)
    _expect(tensor.shape == array.shape, "codes of its shape", tensor.shape)
    largest = int(np.max(np.abs(tensor.codes.astype(np.int64)), initial=0))
    _expect(largest <= quantizer.largest_code, "codes in range", largest)
    _check_scale(tensor)
    values = tensor.dequantize()
    _expect(values.dtype == np.float32, "float32 values", values.dtype)
    _expect(bool(np.isfinite(values).all()), "finite values", values)
    _expect(bool(np.all(values[:0] == 0)), "an array", values)
    again = quantizer.encode(array, axis=axis).dequantize()
    _expect(bool(np.all(again == values)), "equal results twice", again)


def _check_scale(tensor: QuantizedTensor) -> None:
    scale = tensor.scale
    _expect(scale.dtype == np.float32, "float32 scales", scale.dtype)
    _expect(bool(np.all(scale >= 0)), "non-negative scales", scale)
    low = scale.view(np.uint32) & np.uint32(0xFFFF)
    _expect(not low.any(), "scales of 8 significant bits", scale)


def _check_zeros(quantizer: Quantizer, array: NDArray[np.float32]) -> None:
    pruned = np.where(np.abs(array) < 0.5, np.float32(0), array)
    pruned[0] = 0
    values = quantizer.encode(pruned, axis=(0,)).dequantize()
    if quantizer.granularity != "per_tensor" or quantizer.bits > 1:
        _expect(not values[0].any(), "a channel of zeros to stay", values[0])
    if quantizer.bits > 1:
        kept = values[pruned == 0]
        _expect(not kept.any(), "zeros to stay exactly zero", kept)


def _check_non_finite(quantizer: Quantizer) -> None:
    try:
        quantizer.encode(np.array([1.0, np.nan, np.inf]), name="layer/kernel")
    except NonFiniteError as error:
        named = "layer/kernel" in str(error) and "2" in str(error)
        _expect(named, "the name and the count in the error", error)
    else:
        raise AssertionError(
            "Expected NonFiniteError for NaN and infinity. Received: no error"
        )

"""How far the outputs of a model are from those of another."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from keras_squeeze.calibration.call_masks import Mask, mask_of, unmasked
from keras_squeeze.errors import NonFiniteError


def output_snr_db(outputs: list[Any], wanted: list[Any]) -> float:
    """The signal-to-noise ratio of outputs, the mean over a model's outputs.

    Args:
        outputs: List over batches of lists of tensors.
        wanted: The same of the model whose outputs are to be kept. Positions
            that Keras masks in these do not count.

    Returns:
        Float, in decibels; infinity where all outputs are equal.

    Raises:
        NonFiniteError: If a wanted output is NaN or infinite.

    Example:
    >>> round(output_snr_db([[np.array([1.1])]], [[np.array([1.0])]]), 3)
    20.0
    """
    columns = zip(*outputs, strict=True), zip(*wanted, strict=True)
    ratios = []
    for found, exact in zip(*columns, strict=True):
        masks = [mask_of(tensor) for tensor in exact]
        ratios.append(_ratio(_flat(found, masks), _flat(exact, masks)))
    mean = sum(ratios) / max(1, len(ratios))
    return math.inf if mean == 0 else -10 * math.log10(mean)


def _flat(tensors: Any, masks: list[Mask]) -> np.ndarray:
    arrays = [
        keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
        for tensor in tensors
    ]
    kept = [
        unmasked(np.asarray(array, np.float64), mask, inner=0).reshape(-1)
        for array, mask in zip(arrays, masks, strict=True)
    ]
    return np.concatenate(kept)


def _ratio(found: np.ndarray, exact: np.ndarray) -> float:
    if not np.isfinite(exact).all():
        raise NonFiniteError(
            "Expected finite outputs of the model on the calibration data. "
            f"Received: {int(np.sum(~np.isfinite(exact)))} NaN or infinite "
            "values"
        )
    noise = float(np.sum(np.square(found - exact)))
    signal = float(np.sum(np.square(exact)))
    if noise == 0:
        return 0.0
    return noise / signal if signal and math.isfinite(noise) else math.inf

"""Moving statistics of batch normalization, after layers have changed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.call_masks import unmasked
from keras_squeeze.calibration.layer_calls import Call
from keras_squeeze.surgery.layer_tree import to_numpy

# A channel that hardly varies says nothing about a factor.
_LEAST_SHARE = 1e-6


def is_batch_norm(layer: Any) -> bool:
    """Whether a layer is a batch normalization with moving statistics.

    Args:
        layer: A Keras layer.

    Returns:
        Boolean.
    """
    return type(layer) is keras.layers.BatchNormalization and layer.built


def channel_moments(
    calls: list[Call], axis: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of each channel over all positions, less the masked.

    Args:
        calls: List of `Call`, with inputs of the same rank.
        axis: Integer. The axis of the channels.

    Returns:
        Pair of float64 arrays of shape `(channels,)`.
    """
    flat = [_channels(call, axis) for call in calls]
    count = max(1, sum(array.shape[1] for array in flat))
    mean = sum(array.sum(1, dtype=np.float64) for array in flat) / count
    squares = sum(
        np.square(array - mean[:, None]).sum(1, dtype=np.float64)
        for array in flat
    )
    return np.asarray(mean), np.asarray(squares / count)


def _channels(call: Call, axis: int) -> NDArray[np.float32]:
    """The inputs of a call, of shape `(channels, positions)`."""
    tensor = keras.ops.cast(call.inputs, "float32")
    array = np.asarray(keras.ops.convert_to_numpy(tensor))
    behind = array.ndim - axis % array.ndim
    moved = np.moveaxis(unmasked(array, call.mask, behind), -behind, 0)
    return moved.reshape(len(moved), -1)


def reestimate_moments(
    layer: Any, calls: list[Call], twin_calls: list[Call]
) -> None:
    """Moves a batch normalization along with its inputs, in place.

    Its moving mean and variance change as those of its inputs changed from
    the twin's, so each channel leaves with the mean and variance it had
    before. Where nothing changed, nothing changes.

    Args:
        layer: A `BatchNormalization` layer with the twin's moving statistics.
        calls: List of `Call` of the layer.
        twin_calls: List of `Call` of the twin's.

    References:
        - Hubara et al., 2020, Improving post training neural quantization
          (batch normalization tuning): https://arxiv.org/abs/2006.10518
    """
    mean, variance = channel_moments(calls, layer.axis)
    twin_mean, twin_variance = channel_moments(twin_calls, layer.axis)
    old_mean = to_numpy(layer.moving_mean).astype(np.float64)
    old_variance = to_numpy(layer.moving_variance) + float(layer.epsilon)
    varies = np.minimum(variance, twin_variance) > _LEAST_SHARE * old_variance
    growth = np.divide(
        variance, twin_variance, where=varies, out=np.ones_like(variance)
    )
    moved = mean - (twin_mean - old_mean) * np.sqrt(growth)
    layer.moving_mean.assign(moved)
    # The variance cannot fall below zero, the least that Keras adds to.
    layer.moving_variance.assign(
        np.maximum(old_variance * growth - layer.epsilon, 0.0)
    )

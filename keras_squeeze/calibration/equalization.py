"""Cross-layer equalization: channels of equal range on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.channel_links import ChannelLink, channel_links
from keras_squeeze.calibration.channels import (
    first_kernel,
    input_axis,
    last_kernel,
    output_axes,
)
from keras_squeeze.quantizers.layout import to_canonical
from keras_squeeze.surgery.layer_tree import to_numpy

_PASSES = 20
_CONVERGED = 1e-3


def equalize(model: Any) -> list[tuple[ChannelLink, NDArray[np.float64]]]:
    """Gives the channels between two layers the same range in both, in place.

    Where only activations without a bend at a fixed height (none, ReLU,
    LeakyReLU), pooling or dropout lie between two layers, a channel can be
    divided by any positive number in the first and multiplied with it in the
    second. It is chosen so that the largest weight of the channel is the same
    in both. Chains of layers, as those with depthwise convolutions, are gone
    through until nothing moves. Predictions stay as they are, up to rounding.

    Args:
        model: A built `keras.Model`: Sequential or Functional, nested or not.
            Fold batch normalization first: nothing is found across it.

    Returns:
        List of pairs: a `ChannelLink` and what its channels were divided by.

    Example:
    >>> import keras
    >>> layers = [keras.layers.Dense(2), keras.layers.Dense(2)]
    >>> model = keras.Sequential([keras.Input((1,)), *layers])
    >>> _ = layers[0].kernel.assign([[8.0, 1.0]])
    >>> _ = layers[1].kernel.assign([[2.0, 1.0], [4.0, 0.0]])
    >>> len(equalize(model))
    1
    >>> np.asarray(layers[0].kernel), np.asarray(layers[1].kernel)[0]
    (array([[4., 2.]], dtype=float32), array([4., 2.], dtype=float32))

    References:
        - Nagel et al., 2019, Data-free quantization through weight
          equalization and bias correction: https://arxiv.org/abs/1906.04721
    """
    links = [link for link in channel_links(model) if len(link.readers) == 1]
    divided = [np.ones(len(_largest_made(link.producer))) for link in links]
    for _ in range(_PASSES):
        moved = 0.0
        for link, total in zip(links, divided, strict=True):
            factors = _balance(link)
            distance = float(np.abs(np.log(factors)).max(initial=0.0))
            if distance >= _CONVERGED:
                link.rescale(factors)
                total *= factors
            moved = max(moved, distance)
        if moved < _CONVERGED:
            break
    return list(zip(links, divided, strict=True))


def _balance(link: ChannelLink) -> NDArray[np.float64]:
    """What the channels have to be divided by to be equal on both sides."""
    made = _largest_made(link.producer)
    read = _largest_read(link.readers[0], len(made))
    alive = (made > 0) & (read > 0)
    ratio = np.divide(made, read, where=alive, out=np.ones_like(made))
    factors: NDArray[np.float64] = np.sqrt(ratio)
    return factors


def _largest_made(layer: Any) -> NDArray[np.float64]:
    kernel = to_numpy(last_kernel(layer)).astype(np.float64)
    rows = to_canonical(kernel, output_axes(layer))
    largest: NDArray[np.float64] = np.abs(rows).max(axis=1)
    return largest


def _largest_read(layer: Any, channels: int) -> NDArray[np.float64]:
    kernel = np.abs(to_numpy(first_kernel(layer)).astype(np.float64))
    inputs = np.moveaxis(kernel, input_axis(layer), 0)
    inputs = inputs.reshape(len(inputs), -1)
    # A flattened picture repeats its channels at every position.
    per_channel = inputs.max(axis=1).reshape(-1, channels)
    largest: NDArray[np.float64] = per_channel.max(axis=0)
    return largest

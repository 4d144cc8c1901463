"""Biases corrected without data: from what batch normalization promises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.batch_norm_folding import normalization_after
from keras_squeeze.calibration.bias_correction import (
    corrects,
    mean_outputs,
    shift_bias,
)
from keras_squeeze.calibration.channel_links import reader_inputs
from keras_squeeze.calibration.channels import (
    input_axis,
    is_grouped,
    is_plain,
)
from keras_squeeze.calibration.kernel_matrix import kernel_matrix
from keras_squeeze.calibration.layer_graph import LayerCall, LayerGraph
from keras_squeeze.quantizers import QuantizedTensor
from keras_squeeze.surgery.layer_tree import find_kernels, to_numpy

_L = keras.layers
_KEEP_MEAN = (
    *(_L.Identity, _L.Dropout, _L.SpatialDropout1D, _L.SpatialDropout2D),
    *(_L.AveragePooling1D, _L.AveragePooling2D, _L.GlobalAveragePooling1D),
    *(_L.GlobalAveragePooling2D, _L.Flatten),
)

Means = dict[int, NDArray[np.float64]]


def expected_inputs(model: Any) -> Means:
    """The means of layers' inputs that batch normalization implies.

    What a normalization returns has the mean beta and the deviation gamma in
    every channel; with a normal distribution the mean after a ReLU follows.

    Args:
        model: A built `keras.Model` whose normalizations are not folded.

    Returns:
        Dictionary of the `id` of a layer to a float64 array, the mean of each
        input channel. Layers that read anything else are not in it.

    Example:
    >>> layers = [_L.BatchNormalization(), _L.ReLU(), _L.Dense(2)]
    >>> model = keras.Sequential([keras.Input((1,)), *layers])
    >>> expected_inputs(model)[id(layers[2])].round(3)
    array([0.399])

    References:
        - Nagel et al., 2019, Data-free quantization through weight
          equalization and bias correction: https://arxiv.org/abs/1906.04721
    """
    graph = LayerGraph(model)
    found: Means = {}
    for call in graph.calls:
        norm = call.layer
        if type(norm) is not _L.BatchNormalization:
            continue
        if graph.only_call(norm) is None or not _channels_last(norm):
            continue
        size = norm.moving_mean.shape[0]
        mean = to_numpy(norm.beta) if norm.center else np.zeros(size)
        deviation = to_numpy(norm.gamma) if norm.scale else np.ones(size)
        _follow(
            graph,
            call,
            mean.astype(np.float64),
            np.abs(deviation).astype(np.float64),
            found,
        )
    return found


def correct_bias_data_free(
    model: Any,
    originals: Mapping[str, NDArray[np.float32]],
    tensors: Mapping[str, QuantizedTensor],
    expected: Means,
) -> int:
    """Makes up for the mean errors of quantized kernels, in place.

    The bias of a layer takes them up; without one, the moving mean of the
    batch normalization that follows.

    Args:
        model: A built `keras.Model`.
        originals: Mapping of a kernel's path to its value before.
        tensors: Mapping of a kernel's path to its `QuantizedTensor`.
        expected: What `expected_inputs` found, adapted to later changes.

    Returns:
        Integer, the number of layers that were corrected.
    """
    graph, count = LayerGraph(model), 0
    for kernel in find_kernels(model):
        layer = kernel.layer
        known = kernel.path in tensors and id(layer) in expected
        if not known:
            continue
        matrix = kernel_matrix(kernel)
        mean = _of_matrix(kernel, expected[id(layer)])
        wanted = mean_outputs(originals[kernel.path], mean, matrix)
        there = mean_outputs(tensors[kernel.path].dequantize(), mean, matrix)
        call = graph.only_call(layer)
        norm = None if call is None else normalization_after(graph, call)
        if corrects(layer, matrix):
            shift_bias(layer, wanted - there)
        elif norm is not None and not layer.use_bias:
            moved = to_numpy(norm.moving_mean) + there - wanted
            norm.moving_mean.assign(moved)
        else:
            continue
        count += 1
    return count


def _channels_last(norm: Any) -> bool:
    return bool(norm.axis in (-1, norm.input_spec.ndim - 1))


def _follow(
    graph: LayerGraph,
    call: LayerCall,
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64] | None,
    found: Means,
) -> None:
    """Carries the mean on to all layers with kernels that read it."""
    for reader in graph.readers(call):
        layer = reader.layer
        if len(reader.inputs) != 1:
            continue
        if is_plain(layer):
            if graph.only_call(layer) is not None:
                _note(layer, mean, found)
        elif type(layer) in _KEEP_MEAN:
            _follow(graph, reader, mean, deviation, found)
        elif (ceiling := _relu_ceiling(layer)) and deviation is not None:
            moved = _clipped_mean(mean, deviation, ceiling)
            _follow(graph, reader, moved, None, found)


def _note(layer: Any, mean: NDArray[np.float64], found: Means) -> None:
    if is_grouped(layer) or hasattr(layer, "pointwise_kernel"):
        return
    size = reader_inputs(layer)
    found[id(layer)] = np.tile(mean, size // len(mean))


def _relu_ceiling(layer: Any) -> float | None:
    """Where a ReLU clips, infinity for a plain one; `None` for others."""
    if type(layer) is _L.Activation:
        known = {keras.activations.relu: math.inf, keras.activations.relu6: 6.0}
        return known.get(layer.activation)
    if type(layer) is not _L.ReLU or layer.threshold or layer.negative_slope:
        return None
    return math.inf if layer.max_value is None else float(layer.max_value)


def _clipped_mean(
    mean: NDArray[np.float64], deviation: NDArray[np.float64], ceiling: float
) -> NDArray[np.float64]:
    """The mean of a normal variable after clipping to `[0, ceiling]`."""
    clipped = _positive_part(mean, deviation)
    if math.isfinite(ceiling):
        clipped = clipped - _positive_part(mean - ceiling, deviation)
    return clipped


def _positive_part(
    mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    spread = np.maximum(deviation, np.finfo(np.float64).tiny)
    place = np.clip(mean / spread, -40.0, 40.0)
    density = np.exp(-np.square(place) / 2) / math.sqrt(2 * math.pi)
    share = np.array([0.5 * math.erfc(-p / math.sqrt(2)) for p in place])
    found: NDArray[np.float64] = spread * density + mean * share
    return found


def _of_matrix(kernel: Any, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each input of a kernel's matrices: equal for all taps."""
    axis, shape = input_axis(kernel.layer), tuple(kernel.variable.shape)
    moved = [1] * len(shape)
    moved[axis] = shape[axis]
    spread = np.broadcast_to(mean.reshape(moved), shape)
    found: NDArray[np.float64] = kernel_matrix(kernel).to_matrix(spread)
    return found[:, :, 0]

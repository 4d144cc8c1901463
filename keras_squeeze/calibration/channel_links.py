"""Layers whose channels can be rescaled against the layers that read them."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.channels import (
    channel_axis_of_outputs,
    first_kernel,
    input_axis,
    is_grouped,
    is_plain,
    scale_inputs,
    scale_outputs,
)
from keras_squeeze.calibration.layer_graph import LayerCall, LayerGraph
from keras_squeeze.surgery.layer_tree import to_numpy

_L = keras.layers
_HOMOGENEOUS = (
    *(_L.Identity, _L.Dropout, _L.LeakyReLU, _L.MaxPooling1D, _L.MaxPooling2D),
    *(_L.SpatialDropout1D, _L.SpatialDropout2D, _L.SpatialDropout3D),
    *(_L.MaxPooling3D, _L.AveragePooling1D, _L.AveragePooling2D),
    *(_L.AveragePooling3D, _L.GlobalMaxPooling1D, _L.GlobalMaxPooling2D),
    *(_L.GlobalMaxPooling3D, _L.GlobalAveragePooling1D),
    *(_L.GlobalAveragePooling2D, _L.GlobalAveragePooling3D),
    *(_L.ZeroPadding1D, _L.ZeroPadding2D, _L.ZeroPadding3D, _L.Flatten),
    *(_L.Cropping1D, _L.Cropping2D, _L.Cropping3D, _L.UpSampling1D),
    *(_L.UpSampling2D, _L.UpSampling3D),
)
_ACTIVATIONS = (
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.leaky_relu,
)
_NORMALIZATIONS = (_L.BatchNormalization, _L.LayerNormalization)


@dataclasses.dataclass(frozen=True)
class ChannelLink:
    """A layer and those that read its channels, with nothing else between.

    What lies between does not mind a positive factor: what the channels of
    the producer are divided by, the readers can multiply with.

    Args:
        producer: Layer, or a normalization with factors of its own.
        readers: Tuple of layers, which read nothing else.
    """

    producer: Any
    readers: tuple[Any, ...]

    def rescale(self, factors: NDArray[Any]) -> None:
        """Divides the producer's channels; the readers make up for it.

        Args:
            factors: float64 array of positive values, one a channel.
        """
        if is_plain(self.producer):
            scale_outputs(self.producer, 1 / factors)
        else:
            for variable in (self.producer.gamma, self.producer.beta):
                if variable is not None:
                    variable.assign(to_numpy(variable) / factors)
        for reader in self.readers:
            size = reader_inputs(reader)
            scale_inputs(reader, np.tile(factors, size // len(factors)))


def reader_inputs(layer: Any) -> int:
    """Number of input channels of a layer that reads.

    Args:
        layer: A layer for which `is_plain` holds, no convolution in groups.

    Returns:
        Integer.
    """
    return int(first_kernel(layer).shape[input_axis(layer)])


def channel_links(
    model: Any, normalizations: bool = False
) -> list[ChannelLink]:
    """Finds the layers that can be rescaled against their readers.

    Args:
        model: A built `keras.Model`.
        normalizations: Boolean. Whether normalizations count as producers
            too. Defaults to `False`.

    Returns:
        List of `ChannelLink`, in model order.
    """
    graph = LayerGraph(model)
    found = []
    for call in graph.calls:
        layer = call.layer
        if graph.only_call(layer) is None or not _produces(
            layer, normalizations
        ):
            continue
        readers = _readers(graph, call)
        if readers and all(_reads(reader) for reader in readers):
            found.append(ChannelLink(layer, tuple(readers)))
    return found


def _produces(layer: Any, normalizations: bool) -> bool:
    if normalizations and type(layer) in _NORMALIZATIONS:
        last = layer.axis in (-1, [-1]) or layer.axis == layer.input_spec.ndim
        return bool(last and layer.scale and layer.center)
    return (
        is_plain(layer)
        and layer.activation in _ACTIVATIONS
        and channel_axis_of_outputs(layer) == -1
    )


def _readers(graph: LayerGraph, call: LayerCall) -> list[Any]:
    """The first layers with kernels behind a call; none if others read it."""
    found: list[Any] = []
    for reader in graph.readers(call):
        if len(reader.inputs) != 1 or graph.only_call(reader.layer) is None:
            return []
        if is_plain(reader.layer):
            found.append(reader.layer)
            continue
        behind = _readers(graph, reader) if _is_homogeneous(reader) else []
        if not behind:
            return []
        found += behind
    return found


def _is_homogeneous(call: LayerCall) -> bool:
    """Whether a layer turns multiples of channels into the same multiples."""
    layer = call.layer
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return False
    if type(layer) is _L.Activation:
        return layer.activation in _ACTIVATIONS
    if type(layer) is _L.ReLU:
        return layer.max_value is None and layer.threshold == 0
    return type(layer) in _HOMOGENEOUS


def _reads(layer: Any) -> bool:
    return not is_grouped(layer) and channel_axis_of_outputs(layer) == -1

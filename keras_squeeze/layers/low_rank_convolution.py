"""Convolutions as chains of smaller ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_squeeze.layers.factor_chain import (
    FACTOR_NAMES,
    common_arguments,
    finished,
    output_arguments,
)
from keras_squeeze.layers.low_rank_layer import LowRankOutput


@dataclasses.dataclass(frozen=True)
class _Step:
    """One layer of a chain; `filters` is `None` for a depthwise one."""

    filters: int | None
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation_rate: tuple[int, ...]


class LowRankConvolution(LowRankOutput):
    """Mixin: a convolution without groups as a chain of convolutions.

    - `"channel_svd"`: the kernel's size to `rank` channels, then 1x1.
    - `"spatial_svd"` (two or three spatial axes): along the first spatial
      axis to `rank` channels, then along the others.
    - `"tucker2"`: 1x1 to `rank[0]` channels, the kernel's size to `rank[1]`,
      1x1 to the filters.
    - `"cp"` (one or two spatial axes): 1x1 to `rank` channels, a depthwise
      convolution of the kernel's size, 1x1 to the filters. The strides must
      be equal, and the padding not causal.

    Strides, dilation and padding go to the layers that have the kernel's
    size along the axis, which gives the same sums.
    """

    @staticmethod
    def reason_not_possible(layer: Any, method: str) -> str | None:
        """Why there is no such chain of Keras layers."""
        if method != "cp":
            return None
        if len(set(layer.strides)) > 1:
            return f"a depthwise core with unequal strides {layer.strides}"
        if layer.padding == "causal":
            return "a depthwise core with causal padding"
        return None

    @staticmethod
    def chain(layer: Any, method: str, ranks: tuple[int, ...]) -> list[Any]:
        """The convolutions, not built."""
        steps = _steps(layer, method, ranks)
        names = FACTOR_NAMES[len(steps)]
        factors = []
        for step, name in zip(steps, names, strict=True):
            arguments = common_arguments(layer)
            if name == "expand":
                arguments |= output_arguments(layer)
            arguments["use_bias"] = name == "expand" and layer.use_bias
            factors.append(_convolution(layer, step, name, arguments))
        return finished(layer, factors)

    @staticmethod
    def compose(layer: Any, method: str, kernels: Sequence[Any]) -> Any:
        """The kernel that gives the chain's sums in one convolution."""
        size, count = tuple(layer.kernel_size), len(layer.kernel_size)
        shapes = [tuple(kernel.shape) for kernel in kernels]
        flat = [
            ops.reshape(kernel, (math.prod(shape[:count]), *shape[count:]))
            for kernel, shape in zip(kernels, shapes, strict=True)
        ]
        kernel = ops.einsum(_PRODUCTS[method], *flat)
        return ops.reshape(kernel, (*size, shapes[0][-2], shapes[-1][-1]))


# Spatial axes flat: `a` of the first factor, `b` of the second, `c` of the
# third; `i` and `o` are the channels of the kernel.
_PRODUCTS = {
    "channel_svd": "air,bro->abio",
    "spatial_svd": "air,bro->abio",
    "tucker2": "aip,bpq,cqo->abcio",
    "cp": "air,brm,cro->abcmio",
}


def _steps(layer: Any, method: str, ranks: tuple[int, ...]) -> list[_Step]:
    ones = (1,) * len(layer.kernel_size)
    size, strides = tuple(layer.kernel_size), tuple(layer.strides)
    dilation = tuple(layer.dilation_rate)
    if method == "spatial_svd":
        first, rest = _split(size), _split(strides)
        dilations = _split(dilation)
        return [
            _Step(ranks[0], first[0], rest[0], dilations[0]),
            _Step(layer.filters, first[1], rest[1], dilations[1]),
        ]
    last = _Step(layer.filters, ones, ones, ones)
    if method == "channel_svd":
        return [_Step(ranks[0], size, strides, dilation), last]
    core = ranks[1] if method == "tucker2" else None
    first_step = _Step(ranks[0], ones, ones, ones)
    return [first_step, _Step(core, size, strides, dilation), last]


def _split(values: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The first spatial axis alone, and the others alone."""
    return (values[0], *(1 for _ in values[1:])), (1, *values[1:])


def _convolution(
    layer: Any, step: _Step, name: str, arguments: dict[str, Any]
) -> Any:
    count = len(step.kernel_size)
    pointwise = max(step.kernel_size) == 1 == max(step.strides)
    shared = {
        "kernel_size": step.kernel_size,
        "strides": step.strides,
        "dilation_rate": step.dilation_rate,
        "padding": "valid" if pointwise else layer.padding,
        "data_format": layer.data_format,
        "name": name,
    }
    if step.filters is not None:
        kind = getattr(keras.layers, f"Conv{count}D")
        return kind(filters=step.filters, **shared, **arguments)
    for suffix in ("initializer", "regularizer"):
        arguments[f"depthwise_{suffix}"] = arguments.pop(f"kernel_{suffix}")
    shared["strides"] = step.strides[0]
    kind = getattr(keras.layers, f"DepthwiseConv{count}D")
    return kind(**shared, **arguments)


@keras.saving.register_keras_serializable(package="keras_squeeze")
class LowRankConv1D(LowRankConvolution, keras.layers.Conv1D):
    """`keras.layers.Conv1D` as a chain of smaller ones.

    Takes what `Conv1D` takes but `groups`, and `rank`, `method` and
    `factors` (see `LowRankLayer` and `LowRankConvolution`).
    """

    methods = ("channel_svd", "tucker2", "cp")


@keras.saving.register_keras_serializable(package="keras_squeeze")
class LowRankConv2D(LowRankConvolution, keras.layers.Conv2D):
    """`keras.layers.Conv2D` as a chain of smaller ones.

    Takes what `Conv2D` takes but `groups`, and `rank`, `method` and
    `factors` (see `LowRankLayer` and `LowRankConvolution`).

    Example:
    >>> layer = LowRankConv2D(8, 3, rank=2, method="spatial_svd")
    >>> layer.build((None, 9, 9, 4))
    >>> [tuple(factor.kernel.shape) for factor in layer.factors]
    [(3, 1, 4, 2), (1, 3, 2, 8)]
    """

    methods = ("channel_svd", "spatial_svd", "tucker2", "cp")


@keras.saving.register_keras_serializable(package="keras_squeeze")
class LowRankConv3D(LowRankConvolution, keras.layers.Conv3D):
    """`keras.layers.Conv3D` as a chain of smaller ones.

    Takes what `Conv3D` takes but `groups`, and `rank`, `method` and
    `factors` (see `LowRankLayer` and `LowRankConvolution`).
    """

    methods = ("channel_svd", "spatial_svd", "tucker2")

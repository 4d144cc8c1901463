"""Kernels as decompositions take them, and back.

A decomposition knows matrices `(inputs, outputs)` and convolution kernels in
Keras' layout. Only `EinsumDense` differs: its kernel has the axes of an
equation, in any order. The same holds for whatever has the kernel's shape, as
an optimizer's moments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_squeeze.errors import UnbuiltModelError
from keras_squeeze.layers.einsum_axes import EinsumAxes, einsum_axes
from keras_squeeze.layers.factor_chain import factor_variable
from keras_squeeze.layers.low_rank_layer import LowRankLayer


def canonical_kernel(layer: Any) -> np.ndarray:
    """The kernel of a layer as decompositions take it.

    Args:
        layer: A built layer, factorized or not: the product of the factors
            in the first case.

    Returns:
        NumPy array: a matrix `(inputs, outputs)`, or a convolution's kernel.
    """
    value = _whole_kernel(layer)
    return to_canonical(layer, np.asarray(keras.ops.convert_to_numpy(value)))


def to_canonical(layer: Any, array: np.ndarray) -> np.ndarray:
    """Brings an array of the kernel's shape into the canonical layout.

    Args:
        layer: The layer, factorized or not.
        array: NumPy array of the shape that Keras' kernel has.

    Returns:
        NumPy array, a view where possible.
    """
    axes = _axes(layer)
    if axes is None:
        return array
    moved = np.transpose(array, axes.order)
    return moved.reshape(math.prod(moved.shape[: len(axes.reduced)]), -1)


def from_canonical(
    layer: Any, method: str, factors: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Brings canonical factors into the shapes of the sublayers' kernels.

    Works for moments of the factors as well.

    Args:
        layer: The layer, factorized or about to be.
        method: String. The decomposition's name.
        factors: NumPy arrays as a decomposition gives them.

    Returns:
        List of NumPy arrays, in factor order.
    """
    axes = _axes(layer)
    arrays = [np.asarray(factor) for factor in factors]
    if axes is None:
        return arrays
    sizes = dict(zip(axes.kernel, kernel_shape(layer), strict=True))
    first, last = arrays
    return [
        first.reshape(*(sizes[axis] for axis in axes.reduced), -1),
        last.reshape(-1, *(sizes[axis] for axis in axes.kept)),
    ]


def factors_to_canonical(
    layer: Any, arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Brings arrays of the sublayers' shapes into the canonical layout.

    The inverse of `from_canonical`.

    Args:
        layer: A factorized layer.
        arrays: NumPy arrays, in factor order.

    Returns:
        List of NumPy arrays.
    """
    if _axes(layer) is None:
        return list(arrays)
    first, last = arrays
    return [
        first.reshape(-1, first.shape[-1]),
        last.reshape(last.shape[0], -1),
    ]


def canonical_factors(layer: Any) -> list[np.ndarray]:
    """The factors of a factorized layer as decompositions take them.

    Args:
        layer: A built factorized layer.

    Returns:
        List of NumPy arrays, in factor order; what quantized factors hold is
        dequantized.
    """
    values = [
        factor.embeddings
        if isinstance(factor, keras.layers.Embedding)
        else factor.kernel
        for factor in layer.factors
    ]
    arrays = [np.asarray(keras.ops.convert_to_numpy(v)) for v in values]
    return factors_to_canonical(layer, arrays)


def kernel_shape(layer: Any) -> tuple[int, ...]:
    """The shape of a layer's kernel in Keras, without computing it.

    Args:
        layer: A built layer, factorized or not.

    Returns:
        Tuple of integers.

    Raises:
        UnbuiltModelError: If it is not built.
    """
    if isinstance(layer, LowRankLayer):
        return _shape_of_product(layer)
    variable = factor_variable(layer)
    if variable is None:
        raise UnbuiltModelError(
            "Expected a built layer with a kernel: build it or call it "
            f"first. Received: layer {layer.name!r}"
        )
    return tuple(variable.shape)


def kernel_info_arguments(layer: Any) -> dict[str, Any]:
    """What a choice of ranks has to know about a layer.

    Args:
        layer: A built layer, factorized or not.

    Returns:
        Dictionary of `kind` (`"matrix"`, `"conv"` or `"embedding"`), the
        canonical `shape`, and a convolution's `strides` and `dilations`.
    """
    shape = kernel_shape(layer)
    convolution = hasattr(layer, "dilation_rate")
    kind = "conv" if convolution else "matrix"
    if isinstance(layer, keras.layers.Embedding):
        kind = "embedding"
    axes = _axes(layer)
    if axes is not None:
        sizes = [shape[axis] for axis in axes.order]
        split = len(axes.reduced)
        shape = (math.prod(sizes[:split]), math.prod(sizes[split:]))
    return {
        "kind": kind,
        "shape": shape,
        "strides": tuple(layer.strides) if convolution else None,
        "dilations": tuple(layer.dilation_rate) if convolution else None,
    }


def _axes(layer: Any) -> EinsumAxes | None:
    if isinstance(layer, keras.layers.EinsumDense):
        return einsum_axes(layer.equation)
    return None


def _whole_kernel(layer: Any) -> Any:
    if isinstance(layer, LowRankLayer):
        return getattr(layer, layer.kernel_name)
    kernel_shape(layer)
    return factor_variable(layer).value


def _shape_of_product(layer: Any) -> tuple[int, ...]:
    first, last = layer.factors[0], layer.factors[-1]
    if isinstance(layer, keras.layers.Embedding):
        return (layer.input_dim, layer.output_dim)
    heads, tails = tuple(first.kernel.shape), tuple(last.kernel.shape)
    axes = _axes(layer)
    if axes is not None:
        labels = axes.reduced + axes.kept
        sizes = dict(zip(labels, heads[:-1] + tails[1:], strict=True))
        return tuple(sizes[axis] for axis in axes.kernel)
    size = tuple(getattr(layer, "kernel_size", ()))
    return (*size, heads[-2], tails[-1])

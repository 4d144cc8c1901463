"""Biases that make up for the mean error of a quantized kernel."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.channels import is_plain
from keras_squeeze.quantizers.kernel_matrix import KernelMatrix
from keras_squeeze.surgery.layer_tree import to_numpy


def corrects(layer: Any, matrix: KernelMatrix) -> bool:
    """Whether the mean error of a kernel can go into the layer's bias.

    Args:
        layer: The layer of the kernel.
        matrix: `KernelMatrix` of the kernel.

    Returns:
        Boolean.
    """
    if not (is_plain(layer) or type(layer) is keras.layers.EinsumDense):
        return False
    bias = getattr(layer, "bias", None)
    outputs = matrix.groups * matrix.outputs
    if bias is None or int(np.prod(bias.shape)) != outputs:
        return False
    return matrix.groups == 1 or len(bias.shape) == 1


def mean_outputs(
    kernel: NDArray[Any], mean: NDArray[np.float64], matrix: KernelMatrix
) -> NDArray[np.float64]:
    """What a kernel makes of the mean of its inputs.

    Args:
        kernel: Array of the kernel's shape.
        mean: float64 array of shape `(groups, inputs)`.
        matrix: `KernelMatrix` of the kernel.

    Returns:
        float64 array of shape `(groups * outputs,)`.
    """
    exact = matrix.to_matrix(np.asarray(kernel, np.float64))
    found: NDArray[np.float64] = np.einsum("gi,gio->go", mean, exact)
    return found.reshape(-1)


def shift_bias(layer: Any, shift: NDArray[np.float64]) -> None:
    """Adds to a layer's bias, in place.

    Args:
        layer: A layer that `corrects`.
        shift: float64 array, one value an output.
    """
    moved = to_numpy(layer.bias) + shift.reshape(tuple(layer.bias.shape))
    layer.bias.assign(moved)

"""Gram matrices of the inputs of dense layers and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_squeeze.errors import SqueezeError
from keras_squeeze.surgery.layer_tree import Filters, Kernel, find_kernels

#: Kernels with more inputs get none: it would take hundreds of megabytes.
MAX_INPUTS = 4608
_BATCH_SIZE = 32


def gram_matrices(
    model: Any, data: Any, filters: Filters = None
) -> dict[str, np.ndarray]:
    """Sums up what the kernels of a model are multiplied with.

    The Gram matrix of a kernel is the mean of `outer(x, x)` over all vectors
    `x` that it meets: with it, the squared error of a layer's outputs follows
    from the errors of its weights. The model is run on the data once.

    Args:
        model: A built `keras.Model`.
        data: Inputs of the model: an array, a list or dictionary of arrays
            whose first axis are the samples, or a `tf.data.Dataset` of
            batches of inputs, or of pairs whose first is the inputs.
        filters: Optional regex on the kernel's path or callable
            `layer -> bool`. Defaults to all kernels.

    Returns:
        Dictionary from the path of a kernel to a float64 array of shape
        `(inputs, inputs)`, where `inputs` is the product of all axes of the
        kernel but the last. Kernels of other layers than Dense, Conv1D and
        Conv2D, of grouped convolutions, and of more than 4,608 inputs are
        left out.

    Raises:
        SqueezeError: If there is no sample.

    Example:
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> found = gram_matrices(model, np.ones((8, 3), "float32"))
    >>> [gram.shape for gram in found.values()]
    [(3, 3)]
    """
    kernels = [k for k in find_kernels(model, filters) if _is_supported(k)]
    sums = {kernel.path: _Sum() for kernel in kernels}
    batches = 0
    with _recording({id(k.layer): (k, sums[k.path]) for k in kernels}):
        for inputs in _batches(data):
            model(inputs, training=False)
            batches += 1
    if not batches:
        raise SqueezeError(
            "Expected calibration data with at least one sample. "
            f"Received: {type(data).__name__} without any"
        )
    return {path: s.mean() for path, s in sums.items() if s.count}


class _Sum:
    """A sum of outer products and the number of vectors in it."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Any = 0.0

    def add(self, vectors: Any) -> None:
        matrix = np.asarray(keras.ops.convert_to_numpy(vectors), np.float32)
        matrix = matrix.reshape(-1, matrix.shape[-1])
        self.total = self.total + (matrix.T @ matrix).astype(np.float64)
        self.count += len(matrix)

    def mean(self) -> np.ndarray:
        found: np.ndarray = self.total / self.count
        return found


def _is_supported(kernel: Kernel) -> bool:
    layer, shape = kernel.layer, tuple(kernel.variable.shape)
    if int(np.prod(shape[:-1])) > MAX_INPUTS:
        return False
    if isinstance(layer, keras.layers.Dense):
        return True
    convolution = isinstance(layer, keras.layers.Conv1D | keras.layers.Conv2D)
    return (
        convolution
        and kernel.attribute == "kernel"
        and layer.groups == 1
        and layer.data_format == "channels_last"
    )


@contextmanager
def _recording(owners: dict[int, tuple[Kernel, _Sum]]) -> Iterator[None]:
    """While open, the layers add to the sums whatever they are called with."""
    layers = [kernel.layer for kernel, _ in owners.values()]
    try:
        for kernel, found in owners.values():
            kernel.layer.call = _recorder(kernel.layer, found)
        yield
    finally:
        for layer in layers:
            # The instance's attribute hid the class' method.
            vars(layer).pop("call", None)


def _recorder(layer: Any, found: _Sum) -> Callable[..., Any]:
    call = layer.call

    def recorded(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        found.add(_vectors(layer, inputs))
        return call(inputs, *args, **kwargs)

    return recorded


def _vectors(layer: Any, inputs: Any) -> Any:
    """The vectors that the kernel, flattened to a matrix, multiplies."""
    if isinstance(layer, keras.layers.Dense):
        return inputs
    size, strides = tuple(layer.kernel_size), tuple(layer.strides)
    dilation, padding = tuple(layer.dilation_rate), layer.padding
    if len(size) == 1:
        if padding == "causal":
            before = (size[0] - 1) * dilation[0]
            inputs = keras.ops.pad(inputs, [(0, 0), (before, 0), (0, 0)])
            padding = "valid"
        inputs = keras.ops.expand_dims(inputs, 1)
        size, strides, dilation = (1, *size), (1, *strides), (1, *dilation)
    return _patches(inputs, size, strides, dilation, padding)


def _patches(
    inputs: Any,
    size: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: str,
) -> Any:
    array = np.asarray(keras.ops.convert_to_numpy(inputs), np.float32)
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    if padding == "same":
        array = np.pad(array, _same_padding(array.shape, reach, strides))
    windows = np.lib.stride_tricks.sliding_window_view(array, reach, (1, 2))
    (down, right), (low, wide) = strides, dilation
    # (batch, rows, columns, channels, height, width)
    windows = windows[:, ::down, ::right, :, ::low, ::wide]
    vectors = windows.transpose(0, 1, 2, 4, 5, 3)
    return vectors.reshape(-1, size[0] * size[1] * array.shape[-1])


def _same_padding(
    shape: tuple[int, ...], reach: list[int], strides: tuple[int, ...]
) -> list[tuple[int, int]]:
    padding = [(0, 0)]
    for length, r, stride in zip(shape[1:3], reach, strides, strict=True):
        missing = max((-(-length // stride) - 1) * stride + r - length, 0)
        padding.append((missing // 2, missing - missing // 2))
    return [*padding, (0, 0)]


def _batches(data: Any) -> Iterator[Any]:
    if hasattr(data, "element_spec"):
        for batch in data:
            yield batch[0] if isinstance(batch, tuple) else batch
        return
    leaves = keras.tree.flatten(data)
    count = len(leaves[0]) if leaves else 0
    for start in range(0, count, _BATCH_SIZE):
        part = slice(start, start + _BATCH_SIZE)
        yield keras.tree.map_structure(lambda a, p=part: np.asarray(a[p]), data)

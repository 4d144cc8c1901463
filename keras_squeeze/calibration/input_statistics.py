"""What the kernels of a model are multiplied with, summed up in one pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.calibrated_kernels import calibrated_kernels
from keras_squeeze.calibration.call_masks import unmasked
from keras_squeeze.calibration.kernel_inputs import kernel_inputs
from keras_squeeze.calibration.kernel_matrix import (
    kernel_matrix,
    reason_without_matrix,
)
from keras_squeeze.calibration.layer_calls import Call, listening
from keras_squeeze.calibration.samples import sample_batches
from keras_squeeze.errors import NonFiniteError
from keras_squeeze.surgery.layer_tree import Filters, Kernel

#: Kernels with more inputs get no Gram matrix: hundreds of megabytes.
MAX_INPUTS = 4608


@dataclasses.dataclass(frozen=True, eq=False)
class InputStatistics:
    """Figures of the vectors that a kernel's matrices are multiplied with.

    `groups` and `inputs` are those of the kernel's `KernelMatrix`.

    Args:
        gram: float64 array of shape `(groups, inputs, inputs)`, the mean of
            `outer(x, x)`; `None` for an `Embedding` and where it would be too
            large.
        mean: float64 array of shape `(groups, inputs)`, the mean of `x`.
        energy: float64 array of shape `(groups, inputs)`, the mean of
            `x ** 2`; for an `Embedding` the share of each token.
        largest: float32 array of shape `(groups, inputs)`, the largest
            `abs(x)`.
        count: Integer, the number of vectors.
    """

    gram: NDArray[np.float64] | None
    mean: NDArray[np.float64]
    energy: NDArray[np.float64]
    largest: NDArray[np.float32]
    count: int

    def covariance(self) -> NDArray[np.float64] | None:
        """The Gram matrices of inputs less their mean.

        A layer whose bias makes up for the mean error is left with the error
        these weigh.

        Returns:
            float64 array of the shape of `gram`, or `None` without one.
        """
        if self.gram is None:
            return None
        outer: NDArray[np.float64] = (
            self.mean[:, :, None] * self.mean[:, None, :]
        )
        return self.gram - outer


def input_statistics(
    model: Any, data: Any, filters: Filters = None
) -> dict[str, InputStatistics]:
    """Sums up what the kernels of a model are multiplied with.

    The model is run on the data once, eagerly. Kernels of quantized layers
    are among them, under the same paths. Positions that Keras masks, as the
    padding of sequences, do not count.

    Args:
        model: A built `keras.Model`.
        data: Inputs of the model: an array, a list or dictionary of arrays
            whose first axis are the samples, or a `tf.data.Dataset` of
            batches of inputs, or of tuples whose first is the inputs.
        filters: Optional regex on the kernel's path or callable
            `layer -> bool`. Defaults to all kernels.

    Returns:
        Dictionary from the path of a kernel to its `InputStatistics`, in
        model order. Kernels that `reason_without_matrix` names a reason for,
        and those of layers that were not called, are left out.

    Raises:
        NonFiniteError: If what a layer is called with is NaN or infinite.
        SqueezeError: If there is no sample, or the model does not take it.

    Example:
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> found = input_statistics(model, np.ones((8, 3), "float32"))
    >>> [(s.gram.shape, s.mean.tolist()) for s in found.values()]
    [((1, 3, 3), [[1.0, 1.0, 1.0]])]
    """
    kernels = calibrated_kernels(model, filters)
    return statistics_of(model, sample_batches(model, data), kernels)


def statistics_of(
    model: Any, batches: Iterable[Any], kernels: Iterable[Kernel]
) -> dict[str, InputStatistics]:
    """`input_statistics` of some kernels, on batches that fit the model.

    Args:
        model: A built `keras.Model`.
        batches: Iterable of batches of inputs.
        kernels: Iterable of `Kernel` of the model.

    Returns:
        Dictionary from the path of a kernel to its `InputStatistics`.
    """
    sums: dict[str, _VectorSum | _TokenSum] = {}
    by_layer: dict[int, list[Kernel]] = {}
    for kernel in kernels:
        if reason_without_matrix(kernel) is None:
            sums[kernel.path] = _sum_of(kernel)
            by_layer.setdefault(id(kernel.layer), []).append(kernel)
    unusual: list[str] = []

    def add(layer: Any, call: Call) -> None:
        for kernel in by_layer[id(layer)]:
            # Nothing is raised inside a call: Keras would word it anew.
            if not unusual and not sums[kernel.path].add(kernel, call):
                unusual.append(kernel.path)

    heard = [found[0].layer for found in by_layer.values()]
    with listening(model, heard, add):
        for batch in batches:
            model(batch, training=False)
            _check(unusual)
    return {path: s.statistics() for path, s in sums.items() if s.count}


def _check(unusual: list[str]) -> None:
    if unusual:
        raise NonFiniteError(
            "Expected finite inputs of every layer on the calibration data. "
            f"Received: NaN or infinite values where {unusual[0]} reads"
        )


def _sum_of(kernel: Kernel) -> _VectorSum | _TokenSum:
    if isinstance(kernel.layer, keras.layers.Embedding):
        return _TokenSum(int(kernel.variable.shape[0]))
    view = kernel_matrix(kernel)
    fits = view.groups * view.inputs**2 <= MAX_INPUTS**2
    return _VectorSum(view.groups, view.inputs, fits)


class _VectorSum:
    """Sums over the vectors of one kernel."""

    def __init__(self, groups: int, inputs: int, with_gram: bool) -> None:
        self.count = 0
        self._total = np.zeros((groups, inputs))
        self._squares = np.zeros((groups, inputs))
        self._largest = np.zeros((groups, inputs), np.float32)
        self._gram = np.zeros((groups, inputs, inputs)) if with_gram else None

    def add(self, kernel: Kernel, call: Call) -> bool:
        """Adds the vectors of a call; answers whether they are finite."""
        for vectors in kernel_inputs(kernel, call):
            total = vectors.sum(axis=1, dtype=np.float64)
            if not np.isfinite(total).all():
                return False
            if vectors.size:
                self._total += total
                self._add(vectors)
        return True

    def _add(self, vectors: NDArray[np.float32]) -> None:
        self.count += vectors.shape[1]
        largest = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
        np.maximum(self._largest, largest, out=self._largest)
        if self._gram is not None:
            self._gram += vectors.swapaxes(1, 2) @ vectors
        else:
            self._squares += np.einsum("gni,gni->gi", vectors, vectors)

    def statistics(self) -> InputStatistics:
        """The means of what was summed up."""
        squares, gram = self._squares, None
        if self._gram is not None:
            squares = np.einsum("gii->gi", self._gram)
            gram = self._gram / self.count
        return InputStatistics(
            gram=gram,
            mean=self._total / self.count,
            energy=squares / self.count,
            largest=self._largest,
            count=self.count,
        )


class _TokenSum:
    """How often each row of an embedding is looked up."""

    def __init__(self, tokens: int) -> None:
        self.count = 0
        self._counts = np.zeros(tokens, np.int64)

    def add(self, kernel: Kernel, call: Call) -> bool:
        """Adds the tokens of a call; a reversed embedding has none."""
        args = call.args
        if call.keywords.get("reverse", len(args) > 1 and args[1]):
            return True
        tokens = np.asarray(keras.ops.convert_to_numpy(call.inputs))
        found = unmasked(tokens, call.mask, inner=0).reshape(-1)
        if kernel.layer.mask_zero:
            found = found[found != 0]
        within = found[(found >= 0) & (found < len(self._counts))]
        counts = np.bincount(within.astype(np.int64), None, len(self._counts))
        self._counts += counts
        self.count += len(within)
        return True

    def statistics(self) -> InputStatistics:
        """Means over one-hot vectors."""
        share = self._counts[None] / self.count
        seen = (self._counts[None] > 0).astype(np.float32)
        return InputStatistics(None, share, share, seen, self.count)

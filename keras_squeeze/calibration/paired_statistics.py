"""What a kernel meets in two models at once: sums over the same samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import NonFiniteError

Array = NDArray[np.float64]

#: A convolution meets a vector at every place: so many of them are enough.
ENOUGH_VECTORS = 16384
#: More of them, if a kernel has more inputs than they would be enough for.
VECTORS_AN_INPUT = 64
# float32 sums of squares are this precise, relative to their value.
_ROUNDING = 1e-6


class PairedStatistics:
    """Sums over what a kernel is multiplied with, in a model and its twin.

    The model is the one that is being quantized, the twin the one whose
    outputs it is to keep.

    Args:
        name: String. The kernel's path, for the message of an error.
        calls: Integer. In how many calls of the layer the samples come: of
            calls with very many, only some are taken. Defaults to `1`.

    Example:
    >>> found = PairedStatistics("kernel")
    >>> found.add(np.ones((1, 4, 2)), 2 * np.ones((1, 4, 2)))
    >>> found.gram.shape, found.mean, found.twin_mean
    ((1, 2, 2), array([[1., 1.]]), array([[2., 2.]]))
    """

    def __init__(self, name: str, calls: int = 1) -> None:
        self._name = name
        self._calls = calls
        self._random = np.random.default_rng(0)
        #: The number of vectors so far.
        self.count = 0
        self._gram: Any = 0.0
        self._cross: Any = 0.0
        self._mean: Any = 0.0
        self._twin_mean: Any = 0.0

    def add(self, vectors: NDArray[Any], twin_vectors: NDArray[Any]) -> None:
        """Adds samples.

        Args:
            vectors: Array of shape `(groups, samples, inputs)`.
            twin_vectors: Array of the same shape, of the twin.

        Raises:
            NonFiniteError: If a value is NaN or infinite.
        """
        chosen = self._chosen(*vectors.shape[1:])
        vectors, twin_vectors = vectors[:, chosen], twin_vectors[:, chosen]
        turned = vectors.swapaxes(1, 2)
        with np.errstate(invalid="ignore", over="ignore"):
            gram, cross = turned @ vectors, turned @ twin_vectors
        self._gram = self._gram + gram.astype(np.float64)
        self._cross = self._cross + cross.astype(np.float64)
        self._mean = self._mean + vectors.sum(1, dtype=np.float64)
        self._twin_mean = self._twin_mean + twin_vectors.sum(
            1, dtype=np.float64
        )
        self.count += vectors.shape[1]
        if (
            not np.isfinite(self._gram).all()
            or not np.isfinite(self._twin_mean).all()
        ):
            raise NonFiniteError(
                "Expected finite activations on the calibration data. "
                f"Received: NaN or infinity where {self._name} reads"
            )

    def _chosen(self, samples: int, inputs: int) -> Any:
        enough = max(ENOUGH_VECTORS, VECTORS_AN_INPUT * inputs)
        wanted = max(1, enough // self._calls)
        if samples <= wanted:
            return slice(None)
        return np.sort(self._random.choice(samples, wanted, replace=False))

    @property
    def gram(self) -> Array:
        """Mean of `outer(x, x)`, of shape `(groups, inputs, inputs)`."""
        found: Array = self._gram / self.count
        return found

    @property
    def cross(self) -> Array:
        """Mean of `outer(x, twin's x)`, of the same shape."""
        found: Array = self._cross / self.count
        return found

    @property
    def mean(self) -> Array:
        """Mean of `x`, of shape `(groups, inputs)`."""
        found: Array = self._mean / self.count
        return found

    @property
    def twin_mean(self) -> Array:
        """Mean of the twin's `x`, of the same shape."""
        found: Array = self._twin_mean / self.count
        return found

    def without_means(self) -> tuple[Array, Array]:
        """`gram` and `cross` of what is left after subtracting the means.

        Returns:
            Pair of float64 arrays.
        """
        energy = np.einsum("gii->gi", self.gram)
        gram = self.gram - _outer(self.mean, self.mean)
        cross = self.cross - _outer(self.mean, self.twin_mean)
        # What is left of a constant input is rounding.
        constant = np.einsum("gii->gi", gram) <= _ROUNDING * energy
        gram[constant] = 0
        cross[constant] = 0
        gram.swapaxes(1, 2)[constant] = 0
        return gram, cross


def _outer(first: Array, second: Array) -> Array:
    found: Array = first[:, :, None] * second[:, None, :]
    return found


def aligned_matrix(
    matrix: NDArray[Any], gram: Array, cross: Array, damping: float
) -> Array:
    """The matrix that keeps the twin's products as well as it can.

    Where the inputs differ from the twin's, because layers before are
    quantized, another matrix than the twin's own comes closer to its outputs:
    that of the least squared error, drawn towards the twin's by the damping.

    Args:
        matrix: Array of shape `(groups, inputs, outputs)`, the twin's.
        gram: float64 array of shape `(groups, inputs, inputs)`.
        cross: float64 array of the same shape.
        damping: Float. What is added to the diagonals, a share of their mean.

    Returns:
        float64 array of the shape of `matrix`.

    References:
        - Li et al., 2025, GPTAQ: efficient finetuning-free quantization for
          asymmetric calibration: https://arxiv.org/abs/2504.02692
    """
    inputs = gram.shape[-1]
    mean = np.trace(gram, axis1=1, axis2=2) / inputs
    added = np.where(mean > 0, damping * mean, 1.0)[:, None, None]
    damped = gram + added * np.eye(inputs)
    exact = np.asarray(matrix, np.float64)
    # Solved for the difference: without any the matrix stays bit for bit.
    difference = (cross - gram) @ exact
    if not difference.any():
        return exact
    found: Array = exact + np.linalg.solve(damped, difference)
    return found

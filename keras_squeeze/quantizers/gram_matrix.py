"""The inputs of a layer, summed up, and what error feedback needs of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError


class GramMatrix:
    """A Gram matrix that factorizes itself once for each order of inputs.

    A search for a step quantizes the same kernel tens of times; factorizing
    the matrix each time would take longer than all the rest.

    Args:
        gram: Array of shape `(inputs, inputs)`: the sum (or mean) of
            `outer(x, x)` over samples.
        name: String. Where it comes from, for the message of an error.
            Defaults to `""`.

    Raises:
        SqueezeError: If the matrix is not square and finite, or a square on
            its diagonal is negative.

    Example:
    >>> gram = GramMatrix(np.diag([4.0, 1.0]))
    >>> gram.corrections(np.array([1, 0]), damping=1e-9).round(2)
    array([[1. , 0. ],
           [0. , 0.5]])
    """

    def __init__(self, gram: NDArray[Any], name: str = "") -> None:
        self.name = name or "the kernel"
        matrix = np.asarray(gram, np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise SqueezeError(
                f"Expected a square Gram matrix for {self.name}. Received: "
                f"shape {matrix.shape}"
            )
        self.matrix: NDArray[np.float64] = (matrix + matrix.T) / 2
        diagonal = matrix.diagonal()
        if not np.isfinite(matrix).all() or (diagonal < 0).any():
            raise SqueezeError(
                "Expected a finite Gram matrix with no negative squares for "
                f"{self.name}. Received: a diagonal from {diagonal.min()} to "
                f"{diagonal.max()}"
            )
        self._corrections: dict[tuple[bytes, float], NDArray[np.float64]] = {}

    @classmethod
    def of(cls, gram: NDArray[Any] | GramMatrix, name: str) -> GramMatrix:
        """The matrix itself, or one made of an array.

        Args:
            gram: Array or `GramMatrix`.
            name: String. Where an array comes from.

        Returns:
            `GramMatrix`.
        """
        return gram if isinstance(gram, GramMatrix) else cls(gram, name)

    def check_inputs(self, inputs: int) -> None:
        """Raises an error unless the matrix is of so many inputs.

        Args:
            inputs: Integer.

        Raises:
            SqueezeError: If it is of another number.
        """
        if len(self.matrix) != inputs:
            raise SqueezeError(
                f"Expected a Gram matrix of shape {(inputs, inputs)} for "
                f"{self.name}. Received: {self.matrix.shape}"
            )

    def corrections(
        self, order: NDArray[np.intp], damping: float
    ) -> NDArray[np.float64]:
        """How the error of each input moves the later ones.

        The matrix is the upper Cholesky factor of the inverse: its rows are
        the optimal corrections, given that earlier inputs are settled.

        Args:
            order: Array of shape `(inputs,)`, the order of quantization.
            damping: Float, what is added to the diagonal, a share of its
                mean.

        Returns:
            float64 array of shape `(inputs, inputs)`, in that order.

        Raises:
            SqueezeError: If the matrix is not positive semidefinite.
        """
        key = (np.asarray(order).tobytes(), damping)
        if key not in self._corrections:
            ordered = self.matrix[np.ix_(order, order)]
            self._corrections[key] = correction_factors(
                ordered, damping, self.name
            )
        return self._corrections[key]


def correction_factors(
    gram: NDArray[np.float64], damping: float, name: str = ""
) -> NDArray[np.float64]:
    """How the error of each input moves the later ones, in many matrices.

    Args:
        gram: float64 array of shape `(..., inputs, inputs)`.
        damping: Float, what is added to the diagonals, a share of their mean.
        name: String. Where they come from, for the message of an error.
            Defaults to `""`.

    Returns:
        float64 array of the shape of `gram`: the upper Cholesky factors of
        the inverses.

    Raises:
        SqueezeError: If a matrix is not positive semidefinite.
    """
    damped = damped_gram(gram, damping)
    try:
        # The factor of the inverse, from that of the reversed matrix.
        factor = np.linalg.cholesky(damped[..., ::-1, ::-1])
    except np.linalg.LinAlgError as error:
        raise SqueezeError(
            f"Expected the Gram matrix of real inputs for {name}, positive "
            "semidefinite. Received: one whose least eigenvalue is "
            f"{np.linalg.eigvalsh(gram).min():g}"
        ) from error
    lower: NDArray[np.float64] = np.asarray(factor, np.float64)
    return np.ascontiguousarray(_inverse(lower)[..., ::-1, ::-1])


def damped_gram(
    gram: NDArray[np.float64], damping: float
) -> NDArray[np.float64]:
    """The matrices with a share of their mean square on the diagonal.

    Args:
        gram: float64 array of shape `(..., inputs, inputs)`.
        damping: Float.

    Returns:
        float64 array of the same shape; the identity is added to a matrix of
        zeros.
    """
    inputs = gram.shape[-1]
    mean = np.trace(gram, axis1=-2, axis2=-1) / max(1, inputs)
    added = np.where(mean > 0, damping * mean, 1.0)
    damped: NDArray[np.float64] = gram + np.eye(inputs) * added[..., None, None]
    return damped


def _inverse(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverses of triangular matrices, by halves: mostly products."""
    size = lower.shape[-1]
    if size <= 64:
        inverse: NDArray[np.float64] = np.tril(np.linalg.inv(lower))
        return inverse
    half = size // 2
    found = np.zeros_like(lower)
    found[..., :half, :half] = _inverse(lower[..., :half, :half])
    found[..., half:, half:] = _inverse(lower[..., half:, half:])
    below = found[..., half:, half:] @ lower[..., half:, :half]
    found[..., half:, :half] = -(below @ found[..., :half, :half])
    return found

"""Regularizers that prepare kernels for a decomposition."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_squeeze.errors import SqueezeError

# Quintic steps raise small singular values 3.4-fold each, into a band around
# one, where cubic steps square the distance that is left.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_QUINTIC_STEPS = 6
_CUBIC_STEPS = 3


@keras.saving.register_keras_serializable(package="keras_squeeze")
class NuclearNorm(keras.regularizers.Regularizer):
    """The sum of the singular values of a kernel, times a weight.

    It draws small singular values to zero, so that a kernel that trains under
    it loses less when its rank is cut. All axes of a kernel but the last are
    rows of the matrix meant.

    The gradient is the polar factor of the kernel, the product of its left
    and right singular vectors, which an iteration of matrix products gives;
    singular values below a thousandth of the Frobenius norm count for less
    than they are. A call costs 24 products with matrices of the smaller
    side: give it to the kernels that will be factorized, for the epochs
    before.

    Args:
        weight: Float of at least 0. Defaults to `1e-4`.

    Raises:
        SqueezeError: If `weight` is negative or not finite.

    Example:
    >>> import numpy as np
    >>> regularizer = NuclearNorm(1.0)
    >>> round(float(regularizer(np.diag([3.0, 2.0]).astype("float32"))), 3)
    5.0

    References:
        [Bernstein & Newhouse, 2024](https://arxiv.org/abs/2409.20325),
        [Jordan et al., 2024](https://kellerjordan.github.io/posts/muon/)
    """

    def __init__(self, weight: float = 1e-4) -> None:
        self.weight = _checked_weight(weight)

    def __call__(self, x: Any) -> Any:
        """The penalty of a kernel, a scalar of at least float32."""
        matrix = _as_tall_matrix(x)
        polar = keras.ops.stop_gradient(polar_factor(matrix))
        return self.weight * keras.ops.sum(matrix * polar)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal regularizer."""
        return {"weight": self.weight}


@keras.saving.register_keras_serializable(package="keras_squeeze")
class Orthogonality(keras.regularizers.Regularizer):
    """How far the columns of a factor are from orthogonal and equally long.

    For a matrix `U`, all axes of the kernel but the last being its rows, it
    is the squared Frobenius norm of `U^T U` less the mean of its diagonal
    times the identity; for a matrix of more columns than rows, that of
    `U U^T`. A factor's length is not penalized, only that some directions
    serve little: so a rank is used in full, and none of it is to be cut next.

    Args:
        weight: Float of at least 0. Defaults to `1e-4`.

    Raises:
        SqueezeError: If `weight` is negative or not finite.

    Example:
    >>> import numpy as np
    >>> float(Orthogonality(1.0)(3 * np.eye(4, 2, dtype="float32")))
    0.0
    """

    def __init__(self, weight: float = 1e-4) -> None:
        self.weight = _checked_weight(weight)

    def __call__(self, x: Any) -> Any:
        """The penalty of a kernel, a scalar of at least float32."""
        matrix = _as_tall_matrix(x)
        gram = keras.ops.matmul(keras.ops.transpose(matrix), matrix)
        side = matrix.shape[1]
        mean = keras.ops.sum(keras.ops.square(matrix)) / side
        identity = keras.ops.eye(side, dtype=matrix.dtype)
        return self.weight * keras.ops.sum(
            keras.ops.square(gram - mean * identity)
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal regularizer."""
        return {"weight": self.weight}


def polar_factor(matrix: Any) -> Any:
    """The nearest matrix with orthonormal columns.

    Args:
        matrix: Float tensor of shape `(rows, columns)`, with no more columns
            than rows.

    Returns:
        Tensor of the same shape. Singular vectors whose singular value is
        below a thousandth of the Frobenius norm come out shorter than one,
        those of a zero as zero.

    Example:
    >>> import numpy as np
    >>> factor = polar_factor(np.array([[0.0, -2.0], [5.0, 0.0]], "float32"))
    >>> np.round(factor, 2).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    ops = keras.ops
    matrix = ops.convert_to_tensor(matrix)
    largest = ops.max(ops.abs(matrix))
    # Two divisions: the squares of very small weights are zero in float32.
    matrix = matrix / ops.where(largest > 0, largest, ops.ones_like(largest))
    norm = ops.sqrt(ops.sum(ops.square(matrix)))
    found = matrix / ops.maximum(norm, 1.0)
    linear, cubic, quintic = _QUINTIC
    identity = ops.eye(matrix.shape[1], dtype=matrix.dtype)
    for _ in range(_QUINTIC_STEPS):
        gram = ops.matmul(ops.transpose(found), found)
        series = cubic * gram + quintic * ops.matmul(gram, gram)
        found = ops.matmul(found, linear * identity + series)
    for _ in range(_CUBIC_STEPS):
        gram = ops.matmul(ops.transpose(found), found)
        found = ops.matmul(found, 1.5 * identity - 0.5 * gram)
    return found


def _as_tall_matrix(x: Any) -> Any:
    """A kernel as matrix with no more columns than rows, float32 or wider."""
    ops = keras.ops
    x = ops.convert_to_tensor(x)
    if keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16"):
        x = ops.cast(x, "float32")
    columns = x.shape[-1] if len(x.shape) else 1
    matrix = ops.reshape(x, (-1, columns))
    if matrix.shape[0] < matrix.shape[1]:
        matrix = ops.transpose(matrix)
    return matrix


def _checked_weight(weight: Any) -> float:
    try:
        value = float(weight)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise SqueezeError(
            "Expected `weight` to be a finite number of at least 0. "
            f"Received: {weight!r}"
        )
    return value

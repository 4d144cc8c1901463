"""A matrix as the product of a tall and a wide one."""

from __future__ import annotations

from keras_squeeze.low_rank.contraction import Array
from keras_squeeze.low_rank.matrix_decomposition import MatrixDecomposition


class SVD(MatrixDecomposition):
    """Cuts the kernel of a Dense or Embedding layer off at a rank.

    The layers of the chain are a Dense or Embedding layer of `rank` units
    and a Dense layer. Of all products of that rank theirs is the nearest.

    Example:
    >>> import numpy as np
    >>> kernel = np.outer([1.0, 2.0, 3.0], [1.0, 0.5])
    >>> factors = SVD().decompose(kernel, ranks=1)
    >>> [factor.shape for factor in factors]
    [(3, 1), (1, 2)]
    >>> np.allclose(SVD().compose(factors), kernel)
    True

    References:
        [Denton et al., 2014](https://arxiv.org/abs/1404.0736)
    """

    name = "svd"
    equation = "ia,ao->io"

    def reason_not_applicable(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
        dilations: tuple[int, ...] | None = None,
    ) -> str | None:
        """Says why a kernel cannot be decomposed this way."""
        if len(shape) == 2:
            return None
        return f"it is for matrices, and this kernel has {len(shape)} axes"

    def unfoldings(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The sizes of the matrix: the kernel's own."""
        return ((shape[0], shape[1]),)

    def unfolding(self, kernel: Array) -> Array:
        """The kernel itself."""
        return kernel

    def _shapes(
        self, shape: tuple[int, ...], ranks: tuple[int, ...]
    ) -> tuple[tuple[int, ...], ...]:
        return (shape[0], ranks[0]), (ranks[0], shape[1])

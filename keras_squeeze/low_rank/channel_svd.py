"""A convolution as one to fewer channels and one of single positions."""

from __future__ import annotations

from keras_squeeze.low_rank.contraction import Array
from keras_squeeze.low_rank.matrix_decomposition import MatrixDecomposition
from keras_squeeze.low_rank.unfolding import (
    reason_not_convolution,
    spatial_positions,
)


class ChannelSVD(MatrixDecomposition):
    """Cuts a convolution's kernel off at a rank between its channels.

    The layers of the chain are a convolution of the kernel's extent, strides
    and dilations to `rank` channels, and one of extent one to the outputs.

    Example:
    >>> import numpy as np
    >>> kernel = np.ones((3, 3, 4, 8))
    >>> ChannelSVD().factor_shapes(kernel.shape, ranks=2)
    ((3, 3, 4, 2), (1, 1, 2, 8))
    >>> ChannelSVD().spectra(kernel)[0].round(3)[:3] + 0.0
    array([16.971,  0.   ,  0.   ])

    References:
        [Zhang et al., 2015](https://arxiv.org/abs/1505.06798)
    """

    name = "channel_svd"
    equation = "kia,ao->kio"

    def reason_not_applicable(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
        dilations: tuple[int, ...] | None = None,
    ) -> str | None:
        """Says why a kernel cannot be decomposed this way."""
        return reason_not_convolution(shape)

    def unfoldings(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The sizes of the matrix: positions and inputs, by outputs."""
        return ((spatial_positions(shape) * shape[-2], shape[-1]),)

    def unfolding(self, kernel: Array) -> Array:
        """The kernel with a row for each position and input channel."""
        return kernel.reshape(-1, kernel.shape[-1])

    def _shapes(
        self, shape: tuple[int, ...], ranks: tuple[int, ...]
    ) -> tuple[tuple[int, ...], ...]:
        ones = (1,) * (len(shape) - 2)
        return (*shape[:-1], ranks[0]), (*ones, ranks[0], shape[-1])

"""A convolution as a depthwise one between two of single positions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.low_rank.alternating import alternating_least_squares
from keras_squeeze.low_rank.contraction import Array
from keras_squeeze.low_rank.decomposition import Bonds, Decomposition
from keras_squeeze.low_rank.truncated_svd import (
    singular_values,
    truncated_svd,
)
from keras_squeeze.low_rank.unfolding import (
    reason_not_spatial,
    spatial_positions,
)

Matrix = NDArray[np.float64]


class CP(Decomposition):
    """Writes a convolution's kernel as a sum of separable terms.

    The layers of the chain are a convolution of extent one to `rank`
    channels, a depthwise one of the kernel's extent, strides and dilations,
    and one of extent one to the outputs. Alternating least squares start at
    nested singular values: those along the shortest of the three axes
    (positions, inputs, outputs), times those of the matrix that goes with
    each. The terms of the start are orthogonal, so that its error is known
    beforehand; it is what `spectra` tells, and the error found is not above.

    Example:
    >>> CP().factor_shapes((3, 3, 16, 32), ranks=8)
    ((1, 1, 16, 8), (3, 3, 8, 1), (1, 1, 8, 32))
    >>> CP().reason_not_applicable((3, 3, 16, 32), strides=(1, 2))
    'a depthwise layer needs equal strides, and these are (1, 2)'

    References:
        [Lebedev et al., 2015](https://arxiv.org/abs/1412.6553)
    """

    name = "cp"
    equation = "ia,ka,ao->kio"
    depthwise = (1,)

    def reason_not_applicable(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
        dilations: tuple[int, ...] | None = None,
    ) -> str | None:
        """Says why a kernel cannot be decomposed this way."""
        steps, gaps = tuple(strides or (1,)), tuple(dilations or (1,))
        if len(set(steps)) > 1:
            return (
                f"a depthwise layer needs equal strides, and these are {steps}"
            )
        if max(steps) > 1 and max(gaps) > 1:
            return (
                "a depthwise layer has no strides together with dilations, "
                f"and these are {steps} and {gaps}"
            )
        return reason_not_spatial(shape, dimensions=(1, 2))

    def unfoldings(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The sizes of a matrix with as many singular values as terms.

        There is no matrix whose rank is the number of terms: rules that
        tell noise by the sizes of one give rough ranks here.
        """
        *shorter, longest = sorted(_lengths(shape))
        count = math.prod(shorter)
        return ((count, max(count, longest)),)

    def _shapes(
        self, shape: tuple[int, ...], ranks: tuple[int, ...]
    ) -> tuple[tuple[int, ...], ...]:
        ones, rank = (1,) * (len(shape) - 2), ranks[0]
        return (
            (*ones, shape[-2], rank),
            (*shape[:-2], rank, 1),
            (*ones, rank, shape[-1]),
        )

    def _positions(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        # The first layer runs before the stride, at every input position.
        return math.prod(strides), 1, 1

    def _spectra(self, kernel: Array) -> tuple[Matrix, ...]:
        whole = _shortest_first(kernel)[0]
        _, values, matrices = _slices(whole)
        nested = [singular_values(each) for each in matrices]
        products = np.concatenate(
            [a * b for a, b in zip(values, nested, strict=True)]
        )
        return (np.sort(products)[::-1],)

    def _decompose(
        self, kernel: Array, ranks: tuple[int, ...], seed: int
    ) -> tuple[Array, ...]:
        whole, order = _shortest_first(kernel)
        found = alternating_least_squares(
            whole.astype(np.float64), _start(whole, ranks[0], seed)
        )
        spatial, inputs, outputs = (
            found[place] for place in np.argsort(order, kind="stable")
        )
        shapes = self._shapes(kernel.shape, ranks)
        arrays = (inputs, spatial, outputs.T)
        pairs = zip(arrays, shapes, strict=True)
        return tuple(array.reshape(each) for array, each in pairs)

    def _retruncate(
        self, factors: tuple[Array, ...], ranks: tuple[int, ...]
    ) -> tuple[tuple[Array, ...], Bonds]:
        first, middle, last = factors
        rank = first.shape[-1]
        norms = (
            np.linalg.norm(first.reshape(-1, rank), axis=0)
            * np.linalg.norm(middle.reshape(-1, rank), axis=0)
            * np.linalg.norm(last.reshape(rank, -1), axis=1)
        )
        kept = np.sort(np.argsort(-norms, kind="stable")[: ranks[0]])
        found = (first[..., kept], middle[..., kept, :], last[..., kept, :])
        p = np.eye(rank)[:, kept]
        return found, ((p, p.T), (p, p.T))


def _lengths(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Positions, inputs and outputs."""
    return spatial_positions(shape), shape[-2], shape[-1]


def _shortest_first(kernel: Array) -> tuple[Array, NDArray[np.intp]]:
    """Positions, inputs and outputs in ascending order, and that order."""
    lengths = _lengths(kernel.shape)
    order = np.argsort(lengths, kind="stable")
    return kernel.reshape(lengths).transpose(order), order


def _slices(whole: Array, seed: int = 0) -> tuple[Matrix, Matrix, Array]:
    """Singular values along the first axis, and the matrices of each."""
    flat = whole.reshape(len(whole), -1)
    u, values, vt = truncated_svd(flat, len(whole), seed)
    return u, values, vt.reshape(whole.shape)


def _start(whole: Array, rank: int, seed: int) -> tuple[Matrix, ...]:
    """The terms of the largest products of nested singular values."""
    u, values, matrices = _slices(whole, seed)
    terms: list[tuple[Matrix, Matrix, Matrix]] = []
    strengths: list[Matrix] = []
    for at, matrix in enumerate(matrices):
        inner = min(rank, *matrix.shape)
        left, nested, right = truncated_svd(matrix, inner, seed)
        outer = np.repeat(u[:, at : at + 1], inner, axis=1)
        terms.append((outer, left, right.T))
        strengths.append(values[at] * nested)
    strength = np.concatenate(strengths)
    kept = np.argsort(-strength, kind="stable")[:rank]
    root = np.cbrt(strength[kept])
    stacked = (
        np.concatenate(each, axis=1) for each in zip(*terms, strict=True)
    )
    return tuple(each[:, kept] * root for each in stacked)

"""Blocks of neighbouring weights go together."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning.grouped import Grouped
from keras_squeeze.pruning.pooling import check_pooling, pooled


class Block(Grouped):
    """Prunes blocks of weights: the sparsity is rounded to whole ones.

    The block shape is aligned with the last axes of the kernel, as shapes are
    in NumPy: `(4, 1)` means four inputs of one output in a Dense kernel
    `(inputs, outputs)`, and in a Conv2D kernel the same at each place of the
    window. Where an axis is no multiple of the block, its last blocks are
    smaller. At least one block stays.

    Args:
        block_shape: Sequence of positive integers. Defaults to `(4, 1)`.
        pooling: String. What the scores of a block become: `"mean"`, `"max"`,
            or `"l2"`, their root mean square. Defaults to `"mean"`.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    >>> kernel = np.array([[1.0, 4.0], [1.0, 4.0], [9.0, 2.0], [0.0, 2.0]])
    >>> Block((2, 1)).mask(kernel, 0.5).astype(int)
    array([[0, 1],
           [0, 1],
           [1, 0],
           [1, 0]])

    References:
        [Narang et al., 2017](https://arxiv.org/abs/1711.02782)
    """

    def __init__(
        self, block_shape: Sequence[int] = (4, 1), pooling: str = "mean"
    ) -> None:
        self.block_shape = _check_block_shape(block_shape)
        self.pooling = check_pooling(pooling)

    def group_scores(
        self, scores: NDArray[Any], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.floating[Any]]:
        """Pools the scores of each block.

        Args:
            scores: Array of scores of one kernel.
            channel_axis: Not used.

        Returns:
            Array of one dimension, a score a block, without NaN.
        """
        block = self._full_block(scores.shape)

        def reduce(ufunc: np.ufunc, array: NDArray[Any]) -> NDArray[Any]:
            for axis, length in enumerate(block):
                if length > 1:
                    starts = np.arange(0, scores.shape[axis], length)
                    array = ufunc.reduceat(array, starts, axis=axis)
            return array

        sizes = self._sizes(scores.shape)
        return pooled(scores, self.pooling, reduce, sizes)

    def group_sizes(
        self, shape: tuple[int, ...], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.integer[Any]]:
        """Counts the weights of each block.

        Args:
            shape: Tuple of integers. The kernel's shape.
            channel_axis: Not used.

        Returns:
            Array of one dimension, in the order of `group_scores`.

        Raises:
            SqueezeError: If a block is larger than the kernel.
        """
        sizes = self._sizes(shape)
        if isinstance(sizes, np.ndarray):
            return sizes.ravel()
        count = math.prod(shape) // sizes
        return np.broadcast_to(np.intp(sizes), count)

    def _sizes(self, shape: tuple[int, ...]) -> Any:
        """One integer if all blocks are whole, else an array of all sizes."""
        block = self._full_block(shape)
        if not any(n % b for n, b in zip(shape, block, strict=True)):
            return math.prod(block)
        sizes = np.ones((), np.intp)
        for lengths in _lengths(shape, block):
            sizes = sizes[..., None] * lengths
        return sizes

    def _full_block(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The block with an entry for each axis of the kernel."""
        missing = len(shape) - len(self.block_shape)
        if missing < 0:
            raise SqueezeError(
                f"Expected a kernel of at least {len(self.block_shape)} axes "
                f"for blocks of {self.block_shape}. Received: shape "
                f"{tuple(shape)}"
            )
        block = (1,) * missing + self.block_shape
        for axis, length in enumerate(block):
            if length > shape[axis]:
                raise SqueezeError(
                    f"Expected a kernel in which blocks of {self.block_shape}, "
                    f"aligned with its last axes, fit: axis {axis} has size "
                    f"{shape[axis]}, the block {length}. Received: shape "
                    f"{tuple(shape)}"
                )
        return block

    def _spread(
        self,
        keep: NDArray[np.bool_],
        scores: NDArray[Any],
        channel_axis: tuple[int, ...],
    ) -> NDArray[np.bool_]:
        shape = scores.shape
        lengths = _lengths(shape, self._full_block(shape))
        mask = keep.reshape([len(each) for each in lengths])
        for axis, each in enumerate(lengths):
            if len(each) < shape[axis]:
                mask = np.repeat(mask, each, axis=axis)
        return mask

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal pattern."""
        return {"block_shape": self.block_shape, "pooling": self.pooling}


def _lengths(
    shape: tuple[int, ...], block: tuple[int, ...]
) -> list[NDArray[np.intp]]:
    """The lengths of the blocks along each axis."""
    lengths = []
    for size, length in zip(shape, block, strict=True):
        each = np.full(-(-size // length), length, np.intp)
        if size % length:
            each[-1] = size % length
        lengths.append(each)
    return lengths


def _check_block_shape(block_shape: Any) -> tuple[int, ...]:
    entries = tuple(block_shape) if isinstance(block_shape, Sequence) else ()
    positive = all(
        isinstance(entry, numbers.Integral) and int(entry) > 0
        for entry in entries
    )
    if not entries or not positive:
        raise SqueezeError(
            "Expected `block_shape` to be a sequence of positive integers. "
            f"Received: {block_shape!r}"
        )
    return tuple(int(entry) for entry in entries)

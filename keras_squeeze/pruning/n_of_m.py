"""N of every M weights stay, as sparse tensor cores have it."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning.axes import inner_axes
from keras_squeeze.pruning.grouped import Grouped
from keras_squeeze.pruning.pooling import pooled
from keras_squeeze.pruning.ranking import without_nan


class _Part(NamedTuple):
    """Groups of equal length along the reduction axis."""

    begin: int
    end: int
    length: int


class NOfM(Grouped):
    """Keeps at most `n` of every `m` neighbours along the reduction axis.

    The reduction axis is the last one that is no output axis: the inputs of a
    Dense or Conv2D kernel. The pattern's own sparsity is `1 - n / m`; below
    it only the groups that lose least take the pattern, and all weights of
    the others stay: the share of groups that have it grows with the sparsity
    until, at `1 - n / m`, it is all of them. A higher sparsity is refused.

    Where the axis is no multiple of `m`, the last group has fewer weights and
    keeps `n` of them, so that such kernels end a little less sparse; padded
    with zeros they have the pattern everywhere.

    Args:
        n: Integer. How many weights of a group stay. Defaults to `2`.
        m: Integer. How many weights a group has. Defaults to `4`.

    Raises:
        SqueezeError: If not `1 <= n < m`.

    Example:
    >>> kernel = np.array([[1.0], [4.0], [2.0], [3.0]])
    >>> NOfM(2, 4).mask(kernel, 0.5).ravel()
    array([False,  True, False,  True])

    References:
        [Mishra et al., 2021](https://arxiv.org/abs/2104.08378)
    """

    def __init__(self, n: int = 2, m: int = 4) -> None:
        integral = all(isinstance(k, numbers.Integral) for k in (n, m))
        if not integral or not 1 <= n < m:
            raise SqueezeError(
                "Expected `n` and `m` to be integers, 1 <= n < m. "
                f"Received: n={n!r}, m={m!r}"
            )
        self.n, self.m = int(n), int(m)
        self.max_sparsity = 1 - self.n / self.m

    def group_scores(
        self, scores: NDArray[Any], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.floating[Any]]:
        """The mean score of the weights that each group would lose.

        Args:
            scores: Array of scores of one kernel.
            channel_axis: Tuple of integers. The kernel's output axes.
                Defaults to `(-1,)`.

        Returns:
            Array of one dimension, a score a group, without NaN.
        """
        parts = self._groups(without_nan(np.asarray(scores)), channel_axis)
        return np.concatenate([_lost(part, self._gone(part)) for part in parts])

    def group_sizes(
        self, shape: tuple[int, ...], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.integer[Any]]:
        """Counts the weights that each group would lose.

        Args:
            shape: Tuple of integers. The kernel's shape.
            channel_axis: Tuple of integers. The kernel's output axes.
                Defaults to `(-1,)`.

        Returns:
            Array of one dimension, in the order of `group_scores`: groups of
            `m` first, then the smaller ones.

        Raises:
            SqueezeError: If the reduction axis has `n` weights or fewer.
        """
        size = shape[self._axis(shape, channel_axis)]
        rows = math.prod(shape) // size
        counts = [
            (rows * (part.end - part.begin) // part.length, part.length)
            for part in self._parts(size)
        ]
        if len(counts) == 1:
            return np.broadcast_to(np.intp(counts[0][1] - self.n), counts[0][0])
        return np.concatenate(
            [np.full(count, length - self.n) for count, length in counts]
        )

    def _axis(
        self, shape: tuple[int, ...], channel_axis: tuple[int, ...]
    ) -> int:
        axes = inner_axes(shape, channel_axis)
        if not axes or shape[axes[-1]] <= self.n:
            found = "it has no such axis"
            if axes:
                found = f"axis {axes[-1]} has size {shape[axes[-1]]}"
            raise SqueezeError(
                f"Expected a kernel whose reduction axis has more than "
                f"{self.n} weights, so that {self!r} can prune some; {found}. "
                f"Received: shape {tuple(shape)}, channel_axis="
                f"{tuple(channel_axis)}"
            )
        return axes[-1]

    def _parts(self, size: int) -> list[_Part]:
        """The whole groups, and the last smaller one if it loses weights."""
        whole = size - size % self.m
        parts = [_Part(0, whole, self.m), _Part(whole, size, size - whole)]
        return [part for part in parts if part.end - part.begin > self.n]

    def _groups(
        self, scores: NDArray[Any], channel_axis: tuple[int, ...]
    ) -> Iterator[NDArray[Any]]:
        """The groups of each length: `(before, groups, length, after)`."""
        axis = self._axis(scores.shape, channel_axis)
        before, size = math.prod(scores.shape[:axis]), scores.shape[axis]
        flat = scores.reshape(before, size, -1)
        for begin, end, length in self._parts(size):
            yield flat[:, begin:end].reshape(
                before, (end - begin) // length, length, flat.shape[2]
            )

    def _gone(self, groups: NDArray[Any]) -> NDArray[np.bool_]:
        """The lowest of each group, all but `n`; the earlier of equal ones."""
        length = groups.shape[2]
        # Comparing pairs beats sorting many short rows by far.
        ranks = np.zeros(groups.shape, np.min_scalar_type(-length))
        for i, j in itertools.combinations(range(length), 2):
            ordered = groups[:, :, i] <= groups[:, :, j]
            ranks[:, :, j] += ordered
            ranks[:, :, i] += ~ordered
        gone: NDArray[np.bool_] = ranks < length - self.n
        return gone

    def _spread(
        self,
        keep: NDArray[np.bool_],
        scores: NDArray[Any],
        channel_axis: tuple[int, ...],
    ) -> NDArray[np.bool_]:
        axis = self._axis(scores.shape, channel_axis)
        before, size = math.prod(scores.shape[:axis]), scores.shape[axis]
        mask = np.ones((before, size, scores.size // before // size), bool)
        parts = zip(
            self._parts(size), self._groups(scores, channel_axis), strict=True
        )
        for (begin, end, _), groups in parts:
            gone = self._gone(groups)
            stay, keep = np.split(keep, [gone[:, :, 0].size])
            gone &= ~stay.reshape(before, -1, 1, mask.shape[2])
            mask[:, begin:end] = ~gone.reshape(before, end - begin, -1)
        return mask.reshape(scores.shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal pattern."""
        return {"n": self.n, "m": self.m}


def _lost(
    groups: NDArray[Any], gone: NDArray[np.bool_]
) -> NDArray[np.floating[Any]]:
    """The mean score of the weights that go, a number a group."""

    def reduce(ufunc: np.ufunc, array: NDArray[Any]) -> NDArray[Any]:
        neutral = array.dtype.type(0 if ufunc is np.add else -np.inf)
        return np.asarray(ufunc.reduce(np.where(gone, array, neutral), axis=2))

    count = int(np.count_nonzero(gone[:1, :1, :, :1]))
    return pooled(groups, "mean", reduce, count)

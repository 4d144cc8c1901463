"""A sample of a tensor: what the search for contexts asks about it.

Only the encoder comes here. All sums are whole numbers, so that the compiled
kernels, which add in another order, find the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs.class_rans_alphabet import Tokens
from keras_squeeze.codecs.class_rans_contexts import (
    NEIGHBOURS,
    Neighbour,
    levels_of,
)

#: Exponents are within -10..10.
MOST_EXPONENT = 10
STEPS = 2 * MOST_EXPONENT + 1


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """How exponents of positions and channels choose a class.

    Args:
        exponents: int16 array, an exponent for each sampled position, then
            one for each sampled channel.
        rows: Integer. How many positions there are.
        classes: Integer. How many classes there are.
        merge: Integer. The logarithm of how many sums of two exponents share
            a class.
        start: Integer. The first sum of the first class; sums that are less
            have this class too, sums beyond the last class that one.
    """

    exponents: np.ndarray
    rows: int
    classes: int
    merge: int
    start: int

    @property
    def of_rows(self) -> np.ndarray:
        """The exponents of positions; a view."""
        return self.exponents[: self.rows]

    @property
    def of_columns(self) -> np.ndarray:
        """The exponents of channels; a view."""
        return self.exponents[self.rows :]


def by_sums(rows: int, columns: int, lists: int) -> Partition:
    """A partition where every sum of exponents is a class, all of them zero.

    Args:
        rows: Integer. How many positions there are.
        columns: Integer. How many channels there are.
        lists: Integer in 0..3. How many exponents will be added up in
            `of_rows` and `of_columns`.
    """
    exponents = np.zeros(rows + columns, np.int16)
    most = lists * MOST_EXPONENT
    return Partition(exponents, rows, 2 * most + 1, 0, -most)


class Sample:
    """Some positions and channels of a tensor, in NumPy.

    Args:
        matrix: Integer array of shape `(positions, channels)`, the tensor.
        rows: Slice, the sampled positions.
        columns: Slice, the sampled channels.
        tokens_of: `Tokens`.
        size: Integer. How many tokens there are, the escape included.
        grids: Optional uint8 array, the grid of each sampled element.
    """

    def __init__(
        self,
        matrix: np.ndarray,
        rows: slice,
        columns: slice,
        tokens_of: Tokens,
        size: int,
        grids: np.ndarray | None,
    ) -> None:
        self.matrix, self.grids = matrix, grids
        self.tokens_of, self.size = tokens_of, size
        self._read(matrix[rows, columns])

    def _read(self, part: np.ndarray) -> None:
        self.values = part.astype(np.int32)
        if self.grids is not None:
            self.values = levels_of(self.values)
        self.tokens = self.tokens_of.of(self.values)

    def counts(
        self, partition: Partition, near: Neighbour | None = None
    ) -> np.ndarray:
        """How often tokens occur with each class, neighbour and grid.

        Args:
            partition: `Partition`.
            near: Optional `Neighbour`, whose class is looked at too.

        Returns:
            int64 array of shape `(classes, neighbours * grids, tokens)`.
        """
        joint = partition.of_rows[:, None] + partition.of_columns
        joint = joint.astype(np.int64) - partition.start
        highest = (partition.classes << partition.merge) - 1
        joint = np.clip(joint, 0, highest) >> partition.merge
        shape = self.shape_of(partition, near)
        if near is not None:
            classes = np.full(self.values.shape, 2, np.uint8)
            before = self.values[: -near.distance]
            classes[near.distance :] = near.classify(before)
            joint = joint * NEIGHBOURS + classes
        if self.grids is not None:
            joint = joint * 2 + self.grids
        joint = (joint * self.size + self.tokens).reshape(-1)
        counts = np.bincount(joint, minlength=int(np.prod(shape)))
        return counts.reshape(shape)

    def shape_of(
        self, partition: Partition, near: Neighbour | None
    ) -> tuple[int, int, int]:
        """The shape of `counts`."""
        per = (1 if near is None else NEIGHBOURS) << (self.grids is not None)
        return partition.classes, per, self.size

    def column_sums(self, rows: slice) -> np.ndarray:
        """The sum of the magnitudes of each channel.

        Args:
            rows: Slice. The positions that are looked at.

        Returns:
            int64 array.
        """
        sums: np.ndarray = np.abs(self.matrix[rows].astype(np.int64)).sum(0)
        return sums

    def row_sums(self, columns: slice, exponents: np.ndarray) -> np.ndarray:
        """Sums of magnitudes at each position, by the channels' exponents.

        Args:
            columns: Slice. The channels that are looked at.
            exponents: int16 array, of these channels.

        Returns:
            float64 array of shape `(positions, STEPS)`, whole numbers that no
            product rounds.
        """
        part = np.abs(self.matrix[:, columns].astype(np.float64))
        places = np.arange(-MOST_EXPONENT, MOST_EXPONENT + 1)
        which = (exponents[:, None] == places).astype(np.float64)
        sums: np.ndarray = part @ which
        return sums

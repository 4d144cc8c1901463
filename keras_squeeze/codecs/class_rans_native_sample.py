"""Samples for the search for contexts, by the compiled kernels."""

from __future__ import annotations

import numpy as np

from keras_squeeze.codecs.class_rans_contexts import Neighbour
from keras_squeeze.codecs.class_rans_native import (
    READ_KINDS,
    address,
    kernel_function,
)
from keras_squeeze.codecs.class_rans_sample import (
    MOST_EXPONENT,
    STEPS,
    Partition,
    Sample,
)

_Place = tuple[int, int, int, int, int, int]


def _place_of(part: np.ndarray) -> _Place:
    """Where the elements of a matrix are, as kernels take it."""
    kind = READ_KINDS[part.dtype.name]
    return address(part), kind, *part.strides, *part.shape


class NativeSample(Sample):
    """See `Sample`."""

    def _read(self, part: np.ndarray) -> None:
        self.values = np.empty(part.shape, np.int32)
        self.tokens = np.empty(part.shape, np.int16)
        tokens, grids = self.tokens_of, self.grids
        written = address(self.values), address(self.tokens)
        kernel_function("ks_class_rans_sample", None, "piqqqqiiiipp")(
            *_place_of(part),
            grids is not None,
            tokens.low,
            tokens.shift,
            tokens.plain,
            *written,
        )
        places = (
            written[1],
            written[0],
            None if grids is None else address(grids),
        )
        self._sampled = (*places, *part.shape)
        self._count = kernel_function(
            "ks_class_rans_count", None, "pppqqppiiiqiqqpp"
        )
        # Zeros, between calls.
        self._counters = np.zeros(0, np.uint32)

    def counts(
        self, partition: Partition, near: Neighbour | None = None
    ) -> np.ndarray:
        """See `Sample.counts`."""
        counts = np.empty(self.shape_of(partition, near), np.int64)
        if self._counters.size < 4 * counts.size:
            self._counters = np.zeros(4 * counts.size, np.uint32)
            self._counters_at = address(self._counters)
        exponents = address(partition.exponents)
        self._count(
            *self._sampled,
            exponents,
            exponents + partition.rows * partition.exponents.itemsize,
            partition.start,
            (partition.classes << partition.merge) - 1,
            partition.merge,
            near.distance if near else 0,
            near.threshold if near else 0,
            self.size,
            counts.size,
            self._counters_at,
            address(counts),
        )
        return counts

    def column_sums(self, rows: slice) -> np.ndarray:
        """See `Sample.column_sums`."""
        part = self.matrix[rows]
        sums = np.zeros(part.shape[1], np.int64)
        kernel = kernel_function("ks_class_rans_column_sums", None, "piqqqqp")
        kernel(*_place_of(part), address(sums))
        return sums

    def row_sums(self, columns: slice, exponents: np.ndarray) -> np.ndarray:
        """See `Sample.row_sums`."""
        part = self.matrix[:, columns]
        steps = (exponents + MOST_EXPONENT).astype(np.uint8)
        sums = np.empty((len(part), STEPS))
        kernel = kernel_function("ks_class_rans_row_sums", None, "piqqqqpp")
        kernel(*_place_of(part), address(steps), address(sums))
        return sums

"""Codebooks in which the nearest level of a value is found quickly."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.nearest_level import nearest_codes
from keras_squeeze.quantizers.quantized_tensor import codebook_index


@dataclasses.dataclass(frozen=True)
class SortedCodebooks:
    """Sorted codebooks, in which a value is found by halving.

    Args:
        levels: float64 array of shape `(rows, 2 ** bits)`, by code.
        thresholds: float64 array of shape `(rows, 2 ** bits - 1)`, ascending,
            filled up with infinity.
        codes: int32 array of shape `(rows, 2 ** bits)`: the code of each
            interval between the thresholds.
        bits: Integer.
    """

    levels: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    codes: NDArray[np.int32]
    bits: int

    @classmethod
    def of(cls, codebook: NDArray[np.float32], bits: int) -> SortedCodebooks:
        """Sorts the levels of each row.

        Args:
            codebook: float32 array of shape `(rows, 2 ** bits)`.
            bits: Integer.

        Returns:
            `SortedCodebooks`.
        """
        size = 2**bits
        thresholds = np.full((len(codebook), size - 1), np.inf)
        codes = np.zeros((len(codebook), size), np.int32)
        for row, levels in enumerate(codebook):
            places = np.unique(levels)
            middle = (places[1:] + places[:-1].astype(np.float64)) / 2
            thresholds[row, : len(middle)] = middle
            found = nearest_codes(places[None], levels[None], bits)
            codes[row, : len(places)] = found[0]
        return cls(codebook.astype(np.float64), thresholds, codes, bits)

    def nearest(
        self, values: NDArray[np.float64], rows: NDArray[np.intp]
    ) -> NDArray[np.int32]:
        """The codes of the nearest levels.

        Args:
            values: float64 array, in units of the scale.
            rows: Integer array of the same shape: the codebook of each.

        Returns:
            int32 array of the same shape.
        """
        place = np.zeros(values.shape, np.intp)
        for bit in reversed(range(self.bits)):
            step = 1 << bit
            passed = values > self.thresholds[rows, place + step - 1]
            place += np.where(passed, step, 0)
        return self.codes[rows, place]

    def values(
        self, codes: NDArray[np.int32], rows: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """The levels of codes.

        Args:
            codes: Integer array.
            rows: Integer array of the same shape.

        Returns:
            float64 array of the same shape.
        """
        return self.levels[rows, codebook_index(codes, self.bits)]

"""Estimates of what tables of `class_rans` take, by the compiled kernels."""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from keras_squeeze.codecs import class_rans_family
from keras_squeeze.codecs.class_rans_contexts import MAX_CLASSES, MAX_TABLES
from keras_squeeze.codecs.class_rans_estimates import (
    Estimator,
    Widths,
    coarse_lengths,
)
from keras_squeeze.codecs.class_rans_native import address, kernel_function
from keras_squeeze.codecs.class_rans_table import Alphabet
from keras_squeeze.codecs.logarithms import log2_table

#: Totals below this have their logarithms in a table.
MOST_NATIVE = 1 << 17
_Q = ctypes.c_int64
# Six lists of exponents, three partitions each, of 32 tables; or six
# neighbours, of 128 tables.
_ROOM = 6 * MAX_TABLES + 2


class _Estimate(ctypes.Structure):
    """`ks_estimate` of `class_rans_fit.c`."""

    _fields_ = [
        *(
            (name, ctypes.c_void_p)
            for name in (
                "half_logs",
                "explicit_bits",
                "split",
                "folded",
                "merged",
            )
        ),
        *(
            (name, ctypes.c_int64)
            for name in ("known", "size", "reach", "used", "room")
        ),
        ("plain", ctypes.c_int32),
        ("center", ctypes.c_int32),
    ]


class NativeEstimator(Estimator):
    """`Estimator` by the compiled kernels, below `MOST_NATIVE` counts."""

    def __init__(self, alphabet: Alphabet) -> None:
        super().__init__(alphabet)
        logs = _half_logarithms()
        sums = np.empty((2, _ROOM))
        merged = np.empty(MAX_TABLES * alphabet.tokens, np.int64)
        self._folded = np.empty((_ROOM, alphabet.plain))
        self._found = np.empty(15, np.int64)
        self._found_at = address(self._found)
        self._kept = logs, sums, merged
        self._all = _Estimate(
            address(logs),
            address(sums[0]),
            address(sums[1]),
            address(self._folded),
            address(merged),
            logs.size,
            alphabet.tokens,
            1,
            0,
            _ROOM,
            alphabet.plain,
            alphabet.center,
        )
        self._at = ctypes.addressof(self._all)
        self._requests: list[tuple[int, int, int]] = []
        self._take = kernel_function("ks_class_rans_take", _Q, "ppq")
        self._partitions = kernel_function(
            "ks_class_rans_partitions", _Q, "ppqqqqp"
        )
        self._end = kernel_function(
            "ks_class_rans_estimated", ctypes.c_double, "ppqqqq"
        )

    def take(self, counts: np.ndarray) -> None:
        """See `Estimator.take`."""
        before = self._all.used
        tables = counts.shape[0] * counts.shape[1]
        last = self._take(self._at, address(counts), tables)
        if last < 0:
            raise _too_many()
        self._requests.append((before, self._all.used - before, last))

    def partitions(self, counts: np.ndarray, least: int) -> list[Widths]:
        """See `Estimator.partitions`."""
        before = self._all.used
        span, per = counts.shape[:2]
        count = self._partitions(
            self._at,
            address(counts),
            span,
            per,
            MAX_CLASSES,
            MAX_TABLES,
            self._found_at,
        )
        if count < 0:
            raise _too_many()
        out = []
        numbers = self._found.tolist()
        for i in range(0, 5 * count, 5):
            classes, merge, start, used, last = numbers[i : i + 5]
            self._requests.append((before, used, last))
            before += used
            out.append(Widths(classes, merge, least + start))
        return out

    def finish(self) -> list[float]:
        """See `Estimator.finish`."""
        requests, self._requests = self._requests, []
        if not requests:
            return []
        folded = self._folded[: self._all.used, : self._all.reach]
        bits = class_rans_family.expected_bits(folded, coarse_lengths())
        self._all.used, self._all.reach = 0, 1
        rows, where = bits.shape[1] // 2, address(bits)
        return [self._end(self._at, where, rows, *each) for each in requests]


def _too_many() -> RuntimeError:
    return RuntimeError(f"expected fewer than {MOST_NATIVE} counts")


@functools.cache
def _half_logarithms() -> np.ndarray:
    """Logarithms of 0, 1/2, 1, 3/2, ...; that of 0 is never asked for."""
    out: np.ndarray = log2_table()[: 2 * MOST_NATIVE] - 1
    return out

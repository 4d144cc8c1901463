"""Encoding `class_rans` by the compiled kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_squeeze.codecs import threads
from keras_squeeze.codecs.class_rans_layout import MAX_LANES
from keras_squeeze.codecs.class_rans_native import (
    TASK_ELEMENTS,
    exponent_arrays,
    kernel_function,
    make_job,
)
from keras_squeeze.codecs.class_rans_steps import Elements, EscapeCoding
from keras_squeeze.codecs.class_rans_table import PRECISION, TOTAL

_READ_KINDS = {"int8": 0, "int16": 1, "int32": 2, "uint8": 4}
# Counters of a token in `ks_class_rans_tokens`.
_COUNTERS = 4
_ENCODING = np.dtype(
    [
        ("reciprocal", "u4"),
        ("most", "u4"),
        ("bias", "u4"),
        ("complement", "u2"),
        ("shift", "u2"),
    ]
)


class NativeElements(Elements):
    """A tensor about to be coded, by the compiled kernels."""

    def _start(self, matrix: np.ndarray) -> None:
        layout = self.layout
        if matrix.dtype.name not in _READ_KINDS:
            matrix = matrix.astype(np.int32)
        self.matrix = np.ascontiguousarray(matrix)
        self.arrays = exponent_arrays(layout, self.contexts)
        job = make_job(layout, self.contexts, self.block_rows, self.arrays)
        job.out = self.matrix.ctypes.data
        job.kind = _READ_KINDS[matrix.dtype.name]
        job.low, job.shift = self.tokens_of.low, self.tokens_of.shift
        self.job = job
        self.blocks = -(-layout.rows // self.block_rows)
        self.tokens = np.empty((layout.rows, layout.lanes), np.uint8)
        self.tables = np.empty((layout.rows, layout.lanes), np.uint8)

    def counts(self) -> np.ndarray:
        """See `Elements.counts`."""
        kernel = kernel_function(
            "ks_class_rans_tokens", ctypes.c_int, "pqqippppp"
        )
        begun = np.zeros((self.blocks, self.layout.lanes), np.uint8)
        near_size = (
            self.block_rows * MAX_LANES if self.contexts.neighbour else 0
        )

        def work(blocks: tuple[int, int]) -> np.ndarray:
            shape = self.contexts.tables, 256, _COUNTERS
            counts = np.zeros(shape, np.int64)
            near = np.empty(
                min(near_size, self.layout.rows * MAX_LANES), np.uint8
            )
            kernel(
                ctypes.byref(self.job),
                *blocks,
                self.tokens_of.plain,
                begun.ctypes.data,
                self.tokens.ctypes.data,
                self.tables.ctypes.data,
                counts.ctypes.data,
                near.ctypes.data,
            )
            summed: np.ndarray = counts.sum(2)
            return summed

        # The trellis runs through all blocks.
        together = self.blocks if self.contexts.states else None
        counts = self._each(work, together)
        size = self.tokens_of.plain + 1
        out: np.ndarray = np.sum(counts, 0)
        return np.pad(out, ((0, 0), (0, 1)))[:, :size]

    def _each(
        self,
        work: Callable[[tuple[int, int]], Any],
        together: int | None = None,
    ) -> list[Any]:
        """Calls with ranges of blocks, on threads if that pays."""
        size = self.block_rows * self.layout.lanes
        step = together or max(TASK_ELEMENTS // size, 1)
        ranges = [
            (first, min(first + step, self.blocks))
            for first in range(0, self.blocks, step)
        ]
        count = None if self.layout.count >= 2 * TASK_ELEMENTS else 1
        return threads.map_threads(work, ranges, count)

    def escape(self, frequencies: np.ndarray) -> np.ndarray:
        """See `Elements.escape`."""
        plain = self.tokens_of.plain
        missing = np.zeros((len(frequencies), 256), np.uint8)
        missing[:, : plain + 1] = frequencies == 0
        missing[:, plain] = 1
        self.job.escape = plain
        kernel = kernel_function(
            "ks_class_rans_escapes", ctypes.c_int64, "pqqppppq"
        )
        found = np.empty(self.layout.count, np.int32)
        count = kernel(
            ctypes.byref(self.job),
            0,
            self.blocks,
            self.tokens.ctypes.data,
            self.tables.ctypes.data,
            missing.ctypes.data,
            found.ctypes.data,
            found.size,
        )
        return found[:count].copy()

    def encode(
        self, frequencies: np.ndarray, escape: EscapeCoding | None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """See `Elements.encode`."""
        kernel = kernel_function(
            "ks_class_rans_encode", ctypes.c_int64, "pqppppppq"
        )
        how = _encodings(frequencies)
        escape_how = how
        if escape is not None:
            escape_how = _encodings(escape.frequencies[None])
            self.job.escape_low = escape.tokens.low
            self.job.escape_shift = escape.tokens.shift
        states = np.empty((self.blocks, self.layout.lanes), np.uint32)
        steps = 1 + (escape is not None)
        steps += bool(self.job.shift or self.job.escape_shift)
        rows = min(self.block_rows, self.layout.rows)
        room = rows * self.layout.lanes * steps + 1

        def work(blocks: tuple[int, int]) -> list[np.ndarray]:
            words, out = np.empty(room, np.uint16), []
            for number in range(*blocks):
                start = kernel(
                    ctypes.byref(self.job),
                    number,
                    self.tokens.ctypes.data,
                    self.tables.ctypes.data,
                    how.ctypes.data,
                    escape_how.ctypes.data,
                    states[number].ctypes.data,
                    words.ctypes.data,
                    room,
                )
                out.append(words[start:].copy())
            return out

        return states, [w for some in self._each(work) for w in some]


def _encodings(frequencies: np.ndarray) -> np.ndarray:
    """`ks_encoding` of each token: exact division by multiplication."""
    out = np.zeros((len(frequencies), 256), _ENCODING)
    f = frequencies.astype(np.uint64)
    starts = np.cumsum(frequencies, 1) - frequencies
    used = out[:, : f.shape[1]]
    divisor = np.maximum(f, 1)
    # The least s with 2**s >= f; frexp of f - 1 gives its bit length.
    length = np.frexp((divisor - 1).astype(np.float64))[1].astype(np.uint64)
    numerator = np.uint64(1) << (length + np.uint64(32))
    reciprocal = (numerator + divisor - np.uint64(1)) // divisor
    used["reciprocal"] = reciprocal - np.uint64(1 << 32)
    used["shift"] = length
    used["bias"] = starts
    used["most"] = np.minimum((f << np.uint64(32 - PRECISION)), 1 << 32) - 1
    used["complement"] = TOTAL - frequencies
    return out

"""Encoding `class_rans` by the compiled kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_squeeze.codecs import threads
from keras_squeeze.codecs.class_rans_layout import MAX_LANES
from keras_squeeze.codecs.class_rans_native import (
    READ_KINDS,
    TASK_ELEMENTS,
    address,
    exponent_arrays,
    kernel_function,
    make_job,
)
from keras_squeeze.codecs.class_rans_steps import Elements, EscapeCoding

# Counters of a token in `ks_class_rans_cells`.
_COUNTERS = 4
_ENCODING_BYTES = 16


class NativeElements(Elements):
    """A tensor about to be coded, by the compiled kernels."""

    def _start(self, matrix: np.ndarray) -> None:
        layout = self.layout
        if matrix.dtype.name not in READ_KINDS:
            matrix = matrix.astype(np.int32)
        self.matrix = np.ascontiguousarray(matrix)
        self.arrays = exponent_arrays(layout, self.contexts)
        job = make_job(layout, self.contexts, self.block_rows, self.arrays)
        job.out = address(self.matrix)
        job.kind = READ_KINDS[matrix.dtype.name]
        job.low, job.shift = self.tokens_of.low, self.tokens_of.shift
        self.job = job
        self.blocks = -(-layout.rows // self.block_rows)
        self.cells = np.empty((layout.rows, layout.lanes), np.uint16)

    def counts(self) -> np.ndarray:
        """See `Elements.counts`."""
        kernel = kernel_function(
            "ks_class_rans_cells", ctypes.c_int, "pqqippqppp"
        )
        begun = np.zeros((self.blocks, self.layout.lanes), np.uint8)
        tables = self.contexts.tables
        near_size = 0
        if self.contexts.neighbour:
            near_size = min(self.block_rows, self.layout.rows) * MAX_LANES
        places = address(begun), address(self.cells)

        def work(blocks: tuple[int, int]) -> np.ndarray:
            counts = np.zeros((tables, 256), np.int64)
            counters = np.zeros(tables * 256 * _COUNTERS, np.uint32)
            near = np.empty(near_size, np.uint8)
            kernel(
                ctypes.byref(self.job),
                *blocks,
                self.tokens_of.plain,
                *places,
                tables,
                address(counters),
                address(counts),
                address(near),
            )
            return counts

        # The trellis runs through all blocks.
        together = self.blocks if self.contexts.states else None
        found = self._each(work, together)
        counts: np.ndarray = found[0] if len(found) == 1 else np.sum(found, 0)
        size = self.tokens_of.plain + 1
        if size > 256:
            return np.pad(counts, ((0, 0), (0, 1)))
        return np.ascontiguousarray(counts[:, :size])

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
            "ks_class_rans_escapes", ctypes.c_int64, "pqqpppq"
        )
        size = self.block_rows * self.layout.lanes
        step = max(TASK_ELEMENTS // size, 1)
        room = np.empty(min(step * size, self.cells.size), np.int32)
        found = []
        for first in range(0, self.blocks, step):
            count = kernel(
                ctypes.byref(self.job),
                first,
                min(first + step, self.blocks),
                address(self.cells),
                address(missing),
                address(room),
                room.size,
            )
            found.append(room[:count].copy())
        return np.concatenate(found)

    def encode(
        self, frequencies: np.ndarray, escape: EscapeCoding | None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """See `Elements.encode`."""
        kernel = kernel_function(
            "ks_class_rans_encode", ctypes.c_int64, "pqpppppq"
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
        places = address(self.cells), address(how), address(escape_how)
        states_at = address(states)

        def work(blocks: tuple[int, int]) -> list[np.ndarray]:
            words, out = np.empty(room, np.uint16), []
            words_at = address(words)
            for number in range(*blocks):
                start = kernel(
                    ctypes.byref(self.job),
                    number,
                    *places,
                    states_at + number * states.strides[0],
                    words_at,
                    room,
                )
                out.append(words[start:].copy())
            return out

        found = [w for some in self._each(work) for w in some]
        # Spent: whoever joins the words needs the memory.
        self.matrix, self.cells = self.matrix[:0], self.cells[:0].copy()
        return states, found


def _encodings(frequencies: np.ndarray) -> np.ndarray:
    """`ks_encoding` of each token."""
    frequencies = np.ascontiguousarray(frequencies, np.int64)
    out = np.empty((len(frequencies), 256, _ENCODING_BYTES), np.uint8)
    kernel_function("ks_class_rans_encodings", None, "pqqp")(
        address(frequencies), *frequencies.shape, address(out)
    )
    return out

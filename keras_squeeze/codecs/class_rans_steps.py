"""The elements of a tensor in coding order, and the steps that code them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import (
    class_rans_contexts,
    class_rans_lanes,
    class_rans_layout,
)
from keras_squeeze.codecs.class_rans_alphabet import Tokens
from keras_squeeze.codecs.class_rans_contexts import Contexts
from keras_squeeze.codecs.class_rans_layout import Layout
from keras_squeeze.codecs.class_rans_table import PRECISION, TOTAL

_Steps = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class EscapeCoding:
    """How escaped values are coded.

    Args:
        tokens: `Tokens` that cover all of them.
        frequencies: int64 array, the escape table.
    """

    tokens: Tokens
    frequencies: np.ndarray


class Elements:
    """A tensor about to be coded, in NumPy.

    Args:
        matrix: Integer array of shape `(positions, channels)`; codes, with a
            trellis.
        layout: `Layout`.
        tokens_of: `Tokens`.
        contexts: `Contexts`.
        block_rows: Integer. The rows of every block but the last.
        machines: Optional uint8 array of shape `(rows, lanes)`, the states of
            the trellis.
    """

    def __init__(
        self,
        matrix: np.ndarray,
        layout: Layout,
        tokens_of: Tokens,
        contexts: Contexts,
        block_rows: int,
        machines: np.ndarray | None,
    ) -> None:
        self.layout, self.tokens_of, self.contexts = layout, tokens_of, contexts
        self.block_rows, self.machines = block_rows, machines
        self._start(matrix)

    def _start(self, matrix: np.ndarray) -> None:
        rows = class_rans_layout.to_rows(matrix, self.layout).astype(np.int32)
        if self.machines is not None:
            rows = class_rans_contexts.levels_of(rows)
        self.values = rows
        self.tokens = self.tokens_of.of(rows)
        self.there = class_rans_layout.taking_part(self.layout)
        self.tables = self._tables()

    def _tables(self) -> np.ndarray:
        layout, contexts = self.layout, self.contexts
        classes = contexts.scale.matrix(layout)
        out = class_rans_layout.to_rows(classes, layout)
        if contexts.neighbour is not None:
            near = class_rans_contexts.neighbour_rows(
                self.values, layout, self.block_rows, contexts.neighbour
            )
            out = out * class_rans_contexts.NEIGHBOURS + near
        if self.machines is not None:
            out = out * 2 + (self.machines & 1)
        return out.astype(np.uint8)

    def counts(self) -> np.ndarray:
        """How often each token occurs with each table.

        Returns:
            int64 array of shape `(tables, plain + 1)`; the last column counts
            what has no token.
        """
        size = self.tokens_of.plain + 1
        joint = self.tables.astype(np.int32) * size + self.tokens
        joint = joint[self.there]
        counts = np.bincount(joint, minlength=self.contexts.tables * size)
        return counts.reshape(self.contexts.tables, size)

    def escape(self, frequencies: np.ndarray) -> np.ndarray:
        """Escapes tokens that have no frequency.

        Args:
            frequencies: int64 array of shape `(tables, plain + 1)`.

        Returns:
            int32 array, the values that are escaped.
        """
        plain = self.tokens_of.plain
        missing = frequencies[self.tables, self.tokens] == 0
        self.tokens = np.where(missing, plain, self.tokens)
        escaped = (self.tokens == plain) & self.there
        out: np.ndarray = self.values[escaped]
        return out

    def encode(
        self, frequencies: np.ndarray, escape: EscapeCoding | None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Codes all blocks.

        Args:
            frequencies: int64 array of shape `(tables, tokens)`.
            escape: Optional `EscapeCoding`.

        Returns:
            The states, uint32 of shape `(blocks, lanes)`, and for each block
            its words, uint16.
        """
        steps = [_in_tables(frequencies, self.tables, self.tokens, self.there)]
        raw = [(self.tokens_of, self.there)]
        if escape is not None:
            escaped = (self.tokens == self.tokens_of.plain) & self.there
            raw = [
                (self.tokens_of, self.there & ~escaped),
                (escape.tokens, escaped),
            ]
            found = escape.tokens.of(self.values)
            found = np.minimum(found, escape.tokens.plain - 1)
            one = escape.frequencies[None]
            where = np.zeros(found.shape, np.uint8)
            steps.append(_in_tables(one, where, found, escaped))
        if any(tokens.shift for tokens, _ in raw):
            steps.append(self._raw_steps(raw))
        f_of = np.stack([f for f, _ in steps], 1)
        s_of = np.stack([s for _, s in steps], 1)
        return class_rans_lanes.encode_blocks(f_of, s_of, self.block_rows)

    def _raw_steps(self, parts: list[tuple[Tokens, np.ndarray]]) -> _Steps:
        f = np.full(self.values.shape, TOTAL, np.uint16)
        s = np.zeros(self.values.shape, np.uint16)
        for tokens, where in parts:
            f[where] = TOTAL >> tokens.shift
            rest = tokens.rest(self.values[where])
            s[where] = rest << (PRECISION - tokens.shift)
        return f, s


def _in_tables(
    frequencies: np.ndarray,
    tables: np.ndarray,
    tokens: np.ndarray,
    there: np.ndarray,
) -> _Steps:
    starts = np.cumsum(frequencies, 1) - frequencies
    f = np.where(there, frequencies[tables, tokens], TOTAL)
    s = np.where(there, starts[tables, tokens], 0)
    return f.astype(np.uint16), s.astype(np.uint16)

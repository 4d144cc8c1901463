"""Values to tokens: which values a token of `class_rans` stands for.

Token `t` stands for the `2**shift` values from `low + (t << shift)` on. Values
that are no token's are *escaped*: the last token says so, a token of the
escape table follows, which covers all values there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs.blocks import blocks
from keras_squeeze.codecs.class_rans_table import Alphabet
from keras_squeeze.codecs.logarithms import log2_of, n_log_n

MAX_SPAN = 1 << 16
MAX_TOKENS = 256
_MAX_SHIFT = 8


@dataclass(frozen=True, slots=True)
class Tokens:
    """How values become tokens.

    Args:
        low: Integer. The least value of token 0.
        shift: Integer in 0..8.
        plain: Integer in 1..256. How many tokens stand for values.
    """

    low: int
    shift: int
    plain: int

    def of(self, values: np.ndarray) -> np.ndarray:
        """The tokens of values, `plain` where there is none; int16."""
        tokens = (values - self.low) >> self.shift
        outside = (tokens < 0) | (tokens >= self.plain)
        return np.where(outside, self.plain, tokens).astype(np.int16)

    def rest(self, values: np.ndarray) -> np.ndarray:
        """What the token of a value leaves open."""
        out: np.ndarray = (values - self.low) & ((1 << self.shift) - 1)
        return out

    def alphabet(self, escape: bool) -> Alphabet:
        """The alphabet of tables of these tokens."""
        center = min(max(-self.low >> self.shift, 0), self.plain - 1)
        return Alphabet(self.plain + escape, center, escape)


def covering(low: int, span: int) -> Tokens:
    """The tokens that cover all values, as the escape table has them.

    Args:
        low: Integer. The least value.
        span: Integer in 1..65536. How many values there are.

    Returns:
        `Tokens`.
    """
    shift = max((span - 1).bit_length() - _MAX_SHIFT, 0)
    return Tokens(low, shift, ((span - 1) >> shift) + 1)


def fit_tokens(
    values: np.ndarray,
    low: int,
    high: int,
    level: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Tokens:
    """The tokens with the shortest code, judged by the order-0 entropy.

    Args:
        values: Integer array that spans at most 65536 values.
        low: Integer. The least value, or what `level` makes of it.
        high: Integer. The greatest one.
        level: Optional callable on int32 arrays: what values are counted as.
            Defaults to what they are.

    Returns:
        `Tokens`; values without a token are possible if they span more than
        255.
    """
    span = high - low + 1
    if span < MAX_TOKENS:
        return Tokens(low, 0, span)
    counts = np.zeros(span, np.int64)
    flat = values.reshape(-1)
    for block in blocks(flat.size):
        piece = flat[block].astype(np.int32)
        piece = piece if level is None else level(piece)
        counts += np.bincount(piece - low, minlength=span)
    deepest = max(span.bit_length() - _MAX_SHIFT, 0) + 1
    tried = [
        _window(counts, low, shift) for shift in range(min(deepest, 8) + 1)
    ]
    return min(tried, key=lambda pair: pair[0])[1]


def _window(counts: np.ndarray, low: int, shift: int) -> tuple[float, Tokens]:
    """The best window of tokens of one size, and the bits it takes."""
    offset = low & ((1 << shift) - 1)
    size = -(-(offset + counts.size) >> shift) << shift
    padded = np.zeros(size, np.int64)
    padded[offset : offset + counts.size] = counts
    coarse = padded.reshape(-1, 1 << shift).sum(1)
    plain = min(MAX_TOKENS - 1, coarse.size)
    sums = np.cumsum(np.concatenate([[0], coarse]))
    inside = sums[plain:] - sums[:-plain]
    first = int(inside.argmax())
    escaped = int(sums[-1] - inside[first])
    used = coarse[first : first + plain]
    used = np.append(used[used > 0], escaped or 1)
    entropy = sums[-1] * log2_of(sums[-1]) - n_log_n(used).sum()
    bits = float(entropy) + shift * float(inside[first])
    bits += escaped * float(log2_of(counts.size))
    return bits, Tokens(low - offset + (first << shift), shift, plain)

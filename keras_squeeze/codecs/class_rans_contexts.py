"""What decides which table codes a token: known before, or decoded before.

- The *scale class*: every channel, every input and every tap may have an
  exponent, a measure of its magnitudes; a weight's class is the sum of its
  three, bounded to `0 .. classes * 2**merge - 1`, divided by `2**merge`.
- The *neighbour class*: the value `distance` positions earlier in the same
  channel, as one of five: below `-threshold`, negative, zero, positive, above
  `threshold`. Zero where that is outside of the channel or of the block.
- The *grid* of the trellis: the lowest bit of the state.

The table is `(class * 5 + neighbour) * 2 + grid`, without the factors that a
stream does not use.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from keras_squeeze.codecs import trellis
from keras_squeeze.codecs.class_rans_layout import Layout

MAX_CLASSES = 16
MAX_TABLES = 128
NEIGHBOURS = 5
MAX_MAGNITUDE = 1 << 17


@dataclass(frozen=True, slots=True, eq=False)
class ScaleClasses:
    """The scale classes of a tensor.

    Args:
        classes: Integer in 1..16.
        merge: Integer in 0..3.
        channels: Optional int64 array, an exponent for each channel.
        inputs: Optional int64 array, an exponent for each input.
        taps: Optional int64 array, an exponent for each tap.
    """

    classes: int
    merge: int
    channels: np.ndarray | None
    inputs: np.ndarray | None
    taps: np.ndarray | None

    def of_positions(self, layout: Layout) -> np.ndarray:
        """The part of the exponent that the position decides; int64."""
        out = np.zeros((layout.taps, layout.inputs), np.int64)
        if self.inputs is not None:
            out += self.inputs
        if self.taps is not None:
            out += self.taps[:, None]
        return out.reshape(-1)

    def of_channels(self, layout: Layout) -> np.ndarray:
        """The part of the exponent that the channel decides; int64."""
        if self.channels is None:
            return np.zeros(layout.channels, np.int64)
        return self.channels

    def matrix(
        self,
        layout: Layout,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> np.ndarray:
        """The class of every weight: uint8, `(positions, channels)`.

        Args:
            layout: `Layout`.
            rows: Slice. Which positions are wanted. Defaults to all.
            columns: Slice. Which channels are wanted. Defaults to all.
        """
        positions = self.of_positions(layout)[rows]
        return self.classes_of(layout, positions, columns)

    def classes_of(
        self,
        layout: Layout,
        positions: np.ndarray,
        columns: slice = slice(None),
    ) -> np.ndarray:
        """The classes where positions have these exponents.

        Args:
            layout: `Layout`.
            positions: int64 array, exponents of positions.
            columns: Slice. Which channels are wanted. Defaults to all.

        Returns:
            uint8 array of shape `(positions, channels)`.
        """
        channels = self.of_channels(layout)[columns].astype(np.int16)
        exponents = positions.astype(np.int16)[:, None] + channels
        highest = (self.classes << self.merge) - 1
        np.clip(exponents, 0, highest, out=exponents)
        return (exponents >> self.merge).astype(np.uint8)


NO_CLASSES = ScaleClasses(1, 0, None, None, None)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Which earlier value of the channel is looked at.

    Args:
        distance: Integer, at least 1.
        threshold: Integer in 1..65536.
    """

    distance: int
    threshold: int

    def classify(self, values: np.ndarray) -> np.ndarray:
        """The five classes of values; uint8."""
        out = np.full(values.shape, 2, np.uint8)
        out += values > 0
        out += values > self.threshold
        out -= values < 0
        out -= values < -self.threshold
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Contexts:
    """All that chooses a table.

    Args:
        scale: `ScaleClasses`. Defaults to one class.
        neighbour: Optional `Neighbour`.
        states: Integer. The number of states of the trellis, 0 without one.
    """

    scale: ScaleClasses = field(default=NO_CLASSES)
    neighbour: Neighbour | None = None
    states: int = 0

    @property
    def tables(self) -> int:
        """How many tables there are."""
        neighbours = NEIGHBOURS if self.neighbour else 1
        return self.scale.classes * neighbours * (2 if self.states else 1)


def neighbour_rows(
    values: np.ndarray, layout: Layout, block_rows: int, neighbour: Neighbour
) -> np.ndarray:
    """The neighbour classes of values in coding order.

    Args:
        values: Integer array of shape `(rows, lanes)`.
        layout: `Layout`.
        block_rows: Integer, the rows of a block.
        neighbour: `Neighbour`.

    Returns:
        int64 array of shape `(rows, lanes)`.
    """
    out = np.full(values.shape, 2, np.int64)
    distance = neighbour.distance
    out[distance:] = neighbour.classify(values[:-distance])
    row = np.arange(layout.rows)
    inside = np.minimum(row % layout.positions, row % block_rows) >= distance
    out[~inside] = 2
    return out


def levels_of(codes: np.ndarray) -> np.ndarray:
    """The levels of trellis codes: half of them, rounded away from zero."""
    magnitudes = np.abs(codes) + 1 >> 1
    out: np.ndarray = np.where(codes < 0, -magnitudes, magnitudes)
    return out


def codes_of(levels: np.ndarray, grids: np.ndarray) -> np.ndarray:
    """Undoes `levels_of`, given on which grid each level lies."""
    out: np.ndarray = 2 * levels - np.sign(levels) * grids
    return out


def machine_states(levels: np.ndarray, states: int) -> np.ndarray:
    """The state of the trellis before each row, every lane its own machine.

    The machine is linear over GF(2), so a state is the sum of what each
    earlier parity left of itself, and those sums double in length each pass.

    Args:
        levels: Integer array of shape `(rows, lanes)`; their lowest bits are
            all that is looked at.
        states: Integer, the number of states.

    Returns:
        uint8 array of shape `(rows, lanes)`.
    """
    step = trellis.next_states(states)
    after: np.ndarray = step[0][(levels & 1).astype(np.uint8)]
    power = step[:, 0].copy()
    distance = 1
    while distance < len(after):
        earlier = power[after[:-distance]]
        after[distance:] ^= earlier
        power = power[power]
        distance *= 2
    after[1:] = after[:-1].copy()
    after[:1] = 0
    return after

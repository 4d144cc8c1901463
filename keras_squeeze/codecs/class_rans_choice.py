"""What the encoder of `class_rans` decides for a tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import class_rans_layout
from keras_squeeze.codecs.class_rans_contexts import Contexts
from keras_squeeze.codecs.class_rans_layout import Layout

_SLOW = 0.002
_SLOWER = 0.006


@dataclass(frozen=True, slots=True, eq=False)
class Machines:
    """The trellis of a tensor.

    Args:
        layout: `Layout`, which the trellis fixes.
        states: Integer. The number of states.
        rows: uint8 array of shape `(rows, lanes)`, the states before each
            element.
    """

    layout: Layout
    states: int
    rows: np.ndarray

    @property
    def grids(self) -> np.ndarray:
        """The grid of each element: uint8, `(positions, channels)`."""
        return class_rans_layout.from_rows(self.rows & 1, self.layout)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Contexts, the view they need, and the bits they are expected to take.

    Args:
        bits: Float. All bits.
        view: String, one of the views of `class_rans_layout`.
        contexts: `Contexts`.
        side: Float. What the scale classes take, tables aside.
    """

    bits: float
    view: str
    contexts: Contexts
    side: float = 0.0


def judged(choice: Choice) -> float:
    """Bits, and a little more for what takes longer to decode.

    Args:
        choice: `Choice`.

    Returns:
        The number to minimize.
    """
    near = choice.contexts.neighbour is not None
    transposed = choice.view == "matrix_transposed"
    return choice.bits * (1 + _SLOW * near + _SLOWER * transposed)

"""What one block of `context_mixing` is coded with, and sizes derived from it.

Both the reference in Python and the compiled kernel take a `Model`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import context_mixing_tables as tables
from keras_squeeze.codecs.trellis import next_states

#: The contexts whose predictions are mixed.
CONTEXTS = 8
#: The ages that the probabilities of each context start with: a context that
#: stands for a scale class is surer of its prior.
STARTING_AGES = (8, 6, 6, 1, 6, 6, 1, 1)
#: Sets of mixing weights.
SETS = 16
#: Values around a weight that predict it.
NEIGHBOURS = 8
#: Principal components of the channels before that predict it.
COMPONENTS = 8
#: Slots for signs, and where those of each context start.
SIGN_SLOTS = 8192
SIGN_STARTS = (0, 64, 128, 256, 4352, 5120, 5376, 5632)
#: Places within a channel that have a context of their own.
PLACES = 1024

#: How signs are coded: as raw bits, by contexts, by contexts that know the
#: prediction of a linear filter, or that of a filter and of the principal
#: components of the channels before.
RAW_SIGNS, CONTEXT_SIGNS, FILTERED_SIGNS, PREDICTED_SIGNS = range(4)
#: The largest magnitude the linear filter takes.
FILTER_MAGNITUDE = 2047

# The set of mixing weights, by what a node asks and the bucket it asks about.
_START_SETS = ((1, 1), (4, 2), (10, 3), (1 << 30, 4))
_UP_SETS = ((2, 5), (4, 6), (8, 7), (1 << 30, 8))
_DOWN_SETS = ((4, 9), (10, 10), (1 << 30, 11))
_ODD_START_SETS = ((1, 14), (1 << 30, 2))
_ODD_UP_SETS = ((2, 15), (1 << 30, 6))
_ODD_DOWN_SETS = ((1 << 30, 9),)


@dataclass(frozen=True, slots=True)
class Model:
    """The parameters of a model, as a stream's header holds them.

    Args:
        buckets: Integer in 2..120, the buckets that magnitudes fall into.
        mean_class: Integer, the scale class of the mean magnitude.
        sign_mode: Integer, `RAW_SIGNS`, `CONTEXT_SIGNS`, `FILTERED_SIGNS` or
            `PREDICTED_SIGNS`.
        hole: Integer, the least magnitude that is not 0. Defaults to `1`.
        shift: Integer, see `context_mixing_tables.priors`. Defaults to `0`.
        states: Integer, the states of the trellis, 0 without one.
        top: Integer, the largest level, which the last bucket holds alone; 0
            where the last bucket is like the others. Defaults to `0`.
    """

    buckets: int
    mean_class: int
    sign_mode: int
    hole: int = 1
    shift: int = 0
    states: int = 0
    top: int = 0

    @property
    def classes(self) -> int:
        """The number of scale classes."""
        return tables.class_count(self.buckets)

    @property
    def half_classes(self) -> int:
        """The number of classes of half an octave."""
        return (self.classes + 1) // 2

    @property
    def largest(self) -> int:
        """The largest magnitude of a value this model can code."""
        level = self.top or tables.bucket_start(self.buckets) - 1
        level += self.hole - 1
        return 2 * level if self.states else level

    @property
    def mean(self) -> int:
        """The mean magnitude in 1/1024, at least 1."""
        return max(tables.class_value(self.mean_class), 1)

    @property
    def priors(self) -> tables.Priors:
        """The probabilities the model starts with."""
        return tables.priors(
            self.buckets, bool(self.states), self.hole, self.shift, self.top
        )

    @property
    def next_states(self) -> np.ndarray | None:
        """The state machine of the trellis."""
        return next_states(self.states) if self.states else None

    def context_sizes(self, taps: int, inputs: int) -> tuple[int, ...]:
        """The number of different contexts of each of the eight kinds."""
        classes, halves = self.classes, self.half_classes
        neighbours = 768 if taps > 1 else 256
        places = min(taps * inputs, PLACES)
        local, sizes = classes, 8
        if self.sign_mode == PREDICTED_SIGNS:
            local, sizes = 512, 12
        return (
            *(classes, 256, local, neighbours),
            *(16 * halves, sizes * classes, 1, places),
        )

    @property
    def starting_ages(self) -> tuple[int, ...]:
        """The ages that the probabilities of each context start with."""
        if self.sign_mode == PREDICTED_SIGNS:
            return (*STARTING_AGES[:2], 1, *STARTING_AGES[3:])
        return STARTING_AGES

    def prior_class(self, context: int, index: int) -> int:
        """The scale class whose prior a context starts with."""
        halves = self.half_classes
        if context == 2 and self.sign_mode == PREDICTED_SIGNS:
            return self.mean_class
        if context in (0, 2):
            return index
        if context == 1:
            scale = self.mean_class + 2 * (index // 16) + 2 * (index % 16) - 31
            return min(max(scale, 0), self.classes - 1)
        if context == 4:
            return min(2 * (index % halves), self.classes - 1)
        if context == 5:
            return index % self.classes
        return self.mean_class


@functools.lru_cache(maxsize=256)
def mixer_sets(buckets: int, trellis: bool) -> np.ndarray:
    """The set of mixing weights of each node, as uint8."""
    kinds = (_START_SETS, _UP_SETS, _DOWN_SETS)
    sets = [_find(kind, b) for b in range(buckets) for kind in kinds]
    if trellis:
        odd = (_ODD_START_SETS, _ODD_UP_SETS, _ODD_DOWN_SETS)
        few = range(min(buckets, 4))
        sets += [_find(kind, bucket) for bucket in few for kind in odd]
    return np.array(sets, np.uint8)


def _find(steps: tuple[tuple[int, int], ...], bucket: int) -> int:
    return next(chosen for end, chosen in steps if bucket < end)

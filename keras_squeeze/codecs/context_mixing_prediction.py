"""What surrounds a weight predicts it: the filters of `context_mixing`.

Both are least-mean-squares filters over eight neighbours. `Filter` takes values
as they are; `Prediction` scales them by the mean, so that magnitudes may be of
any size, and knows what the components say.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from keras_squeeze.codecs import context_mixing_tables as tables
from keras_squeeze.codecs.context_mixing_components import (
    LARGEST_SCALED,
    Components,
    clip,
)
from keras_squeeze.codecs.context_mixing_model import NEIGHBOURS

_LARGEST_FILTER = 262136


@dataclass(slots=True)
class Weight:
    """One weight: where it is, what surrounds it, what is expected of it.

    `around` holds the left tap, the upper tap, the weight before, that of the
    channel before, the tap left of the upper one (or the second weight
    before), the 128th before (of one tap), that of the second channel before,
    and the fourth before; 0 where there is none. `next_before` is that of the
    channel before, one place on.
    """

    tap: int
    input: int
    place: int
    around: list[int]
    next_before: int = 0
    log_scale: int = 0
    scale_class: int = 0
    mean_class: int = 0
    expected: int = 0
    power: int = 0
    odd: bool = False
    resembled: int = 0
    scaled: list[int] = field(default_factory=list)


class Filter:
    """Predicts values in units of `2**-13`."""

    def __init__(self) -> None:
        self._coefficients = [0] * NEIGHBOURS

    def expect(self, weight: Weight) -> None:
        """Sets what is expected of a weight, whose scale is known."""
        for c, value in zip(self._coefficients, weight.around, strict=True):
            weight.expected += (c >> 3) * value
            weight.power += value * value
        size = abs(weight.expected) >> 3
        if size:
            ratio = tables.logarithm(size) - weight.log_scale
            weight.mean_class = min(max(ratio + 1024 >> 7, 0), 7)

    def learn(self, weight: Weight, value: int, mean: int) -> None:
        """Moves the coefficients; the mean of magnitudes is in 1/1024."""
        if weight.power == 0:
            return
        place = (weight.power + (mean >> 6) + 1).bit_length() - 1
        half = place + 2 >> 1
        error = value * 8192 - weight.expected >> half
        _adapt(self._coefficients, weight.around, error, place + 6 - half)


class Prediction:
    """Predicts values in 1/16 of scaled ones.

    Args:
        mean: Integer, the mean magnitude of a block in 1/1024, at least 1.
        places: Integer, the values of a channel.
        taps: Integer.
    """

    def __init__(self, mean: int, places: int, taps: int) -> None:
        self._shift = 18 - mean.bit_length()
        self._dense = taps == 1
        self._coefficients = [0] * NEIGHBOURS
        self._residual = 49152
        self._components = Components(places)
        self.begin_channel = self._components.begin_channel

    def _scaled(self, value: int) -> int:
        shift = self._shift
        value = value >> -shift if shift < 0 else value << shift
        return clip(value, LARGEST_SCALED)

    def _log(self, sixteenths: int) -> int:
        return tables.logarithm(sixteenths) + 256 * (6 - self._shift)

    def expect(self, weight: Weight) -> None:
        """Sets what is expected of a weight, whose scale is known."""
        weight.resembled = self._components.predict(weight.place)
        weight.scaled = [self._scaled(value) for value in weight.around]
        resembled = clip(weight.resembled >> 4, LARGEST_SCALED)
        if self._dense:
            weight.scaled[:2] = resembled, self._scaled(weight.next_before)
        else:
            weight.scaled[5] = resembled
        total = 0
        for c, value in zip(self._coefficients, weight.scaled, strict=True):
            total += (c >> 3) * value
            weight.power += value * value
        weight.expected = weight.resembled + (total >> 9)
        size = abs(weight.expected)
        if size:
            ratio = self._log(size) - weight.log_scale
            weight.mean_class = min(max(ratio + 1024 >> 7, 0), 11)

    def context(self, weight: Weight, log_mean: int) -> int:
        """The size of the prediction and of its errors beside the mean."""
        size = self._log(abs(weight.expected) + 1) - log_mean + 1024 >> 6
        error = self._log(self._residual + 1) - 1024 - log_mean + 1024 >> 7
        return 16 * min(max(size, 0), 31) + min(max(error, 0), 15)

    def learn(self, weight: Weight, value: int) -> None:
        """Moves the coefficients of neighbours and of components."""
        scaled = self._scaled(value)
        error = clip(16 * scaled - weight.expected, 262143)
        self._residual += 16 * abs(error) - self._residual >> 4
        place = (weight.power + 1024).bit_length() - 1
        half = place + 2 >> 1
        error = error * 256 >> half
        _adapt(self._coefficients, weight.scaled, error, place + 4 - half)
        self._components.learn(weight.place, scaled, weight.resembled)

    def learn_channel(self, values: list[int]) -> None:
        """Moves the components towards a whole channel."""
        scaled = [self._scaled(value) for value in values]
        self._components.learn_channel(np.array(scaled, np.int64))


def _adapt(
    coefficients: list[int], around: list[int], error: int, shift: int
) -> None:
    for i, near in enumerate(around):
        moved = coefficients[i] + (error * near >> shift)
        coefficients[i] = clip(moved, _LARGEST_FILTER)

"""The mixing of `context_mixing`, in Python.

A *slot* is an adaptive probability of a 1: 24 bits of it, and 8 bits of age,
by which it moves the less the older it is. Eight slots predict every bit.
Their predictions are stretched to the logistic domain, weighted, summed and
squashed; then the weights move along the gradient of the code length.
"""

from __future__ import annotations

from keras_squeeze.codecs import context_mixing_tables as tables
from keras_squeeze.codecs.context_mixing_coder import Decoder, Encoder
from keras_squeeze.codecs.context_mixing_model import CONTEXTS, SETS

_LARGEST_WEIGHT = (1 << 23) - 1
_ONE_WEIGHT = 1 << 21


class Mixer:
    """Codes bits by what eight slots predict.

    Args:
        coder: `Encoder` or `Decoder`.
    """

    def __init__(self, coder: Encoder | Decoder) -> None:
        self._coder = coder
        self._squash = tables.squash().tolist()
        self._stretch = tables.stretch().tolist()
        self._rates = tables.rates().tolist()
        weights = [_ONE_WEIGHT // CONTEXTS] * CONTEXTS
        self._weights = [list(weights) for _ in range(SETS)]
        #: The number of levels coded so far, by which learning slows down.
        self.count = 0

    def bit(
        self, slots: list[list[int]], places: list[int], chosen: int, bit: int
    ) -> int:
        """Codes a bit.

        Args:
            slots: Eight lists of slots.
            places: Eight integers, which slot of each list predicts.
            chosen: Integer, the set of weights.
            bit: Integer, what to write. Does not matter while reading.

        Returns:
            The bit.
        """
        weights = self._weights[chosen]
        inputs = self._inputs(slots, places)
        probability = self._mixed(weights, inputs)
        bit = self._coder.bit(probability, int(bit))
        error = ((bit << 16) - probability) * learning_rate(self.count)
        self._learn(weights, inputs, error + 512 >> 10)
        for row, place in zip(slots, places, strict=True):
            row[place] = self.slot_after(row[place], bit)
        return bit

    def probability(
        self, slots: list[list[int]], places: list[int], chosen: int
    ) -> int:
        """The probability of a 1 in 1/65536, of a bit that is not coded."""
        return self._mixed(self._weights[chosen], self._inputs(slots, places))

    def _inputs(self, slots: list[list[int]], places: list[int]) -> list[int]:
        return [
            self._stretch[row[place] >> 20]
            for row, place in zip(slots, places, strict=True)
        ]

    def _mixed(self, weights: list[int], inputs: list[int]) -> int:
        dot = 4096 + sum(
            (weight >> 8) * x for weight, x in zip(weights, inputs, strict=True)
        )
        dot = min(max(dot >> 13, -tables.DOMAIN), tables.DOMAIN)
        return int(self._squash[dot + tables.DOMAIN])

    def slot_after(self, slot: int, bit: int) -> int:
        """The slot moved towards the bit, one older."""
        age, flip = slot & 255, 0xFFFFFF if bit else 0
        probability = slot >> 8 ^ flip
        probability -= (probability >> 7) * int(self._rates[age]) >> 9
        return (probability ^ flip) << 8 | min(age + 1, 255)

    def _learn(self, weights: list[int], inputs: list[int], error: int) -> None:
        for i, x in enumerate(inputs):
            weight = weights[i] + (x * error + 256 >> 9)
            weights[i] = min(max(weight, -_LARGEST_WEIGHT), _LARGEST_WEIGHT)


def learning_rate(count: int) -> int:
    """The rate at which weights move after so many levels."""
    return 384 - 16 * (count // 250) if count < 4000 else 128

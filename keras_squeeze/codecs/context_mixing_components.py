"""Principal components of the channels before, by integer arithmetic.

Trained kernels are nearly of low rank: a channel is in good part a sum of a
few patterns. They are learned as the channels come, and their shares in a
channel while its weights come, so that nothing of it is transmitted.

The arithmetic is that of 32 bits in the compiled kernel, hence the clipping.
`/` stands for `//` of magnitudes with the sign put back.

References:
    - Weng et al., [Candid covariance-free incremental principal component
      analysis](https://doi.org/10.1109/TPAMI.2003.1217609), 2003.
"""

from __future__ import annotations

import math

import numpy as np

from keras_squeeze.codecs.context_mixing_model import COMPONENTS

#: Values are scaled into `-LARGEST_SCALED..LARGEST_SCALED`.
LARGEST_SCALED = 8191
_LARGEST_COEFFICIENT = 32767 << 11


class Components:
    """Predicts the values of a channel from those before.

    A component has a mean square of `1024 ** 2`. A coefficient, how much of
    it the channel holds, is in units of `2**-15` of scaled values.

    Args:
        places: Integer, the values of a channel.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._components = np.zeros((COMPONENTS, places), np.int64)
        self._energies = [0] * COMPONENTS
        self._ages = [0] * COMPONENTS
        self._energy = self._channels = 0
        self._ease = [0] * COMPONENTS
        self.begin_channel()

    def begin_channel(self) -> None:
        """Forgets the coefficients, not the components."""
        self._coefficients = [0] * COMPONENTS
        self._gains = [0] * COMPONENTS
        self._parts = self._components.T.tolist()

    def predict(self, place: int) -> int:
        """What the components say of a weight, in 1/16 of a scaled value."""
        if place < 16 or place % 8 == 0:
            self._gains = [
                65536 // (ease + place) if ease else 0 for ease in self._ease
            ]
        pairs = zip(self._coefficients, self._parts[place], strict=True)
        return sum((c >> 11) * part for c, part in pairs) >> 10

    def learn(self, place: int, scaled: int, predicted: int) -> None:
        """Moves the coefficients: least squares, component by component."""
        error = clip(16 * scaled - predicted, 131071)
        parts = self._parts[place]
        for j, gain in enumerate(self._gains):
            step = clip(error * gain >> 9, 131072) * parts[j] >> 6
            self._coefficients[j] = clip(
                self._coefficients[j] + step, _LARGEST_COEFFICIENT
            )

    def learn_channel(self, scaled: np.ndarray) -> None:
        """Moves the components towards a channel.

        Args:
            scaled: int64 array of shape `(places,)`.
        """
        rest = scaled.astype(np.int64)
        self._energy += int(rest @ rest) // self._places
        self._channels += 1
        for j in range(min(COMPONENTS, self._channels)):
            rest = self._learn_component(j, rest)
        self._ease = [self._ease_of(j) for j in range(COMPONENTS)]

    def _learn_component(self, j: int, rest: np.ndarray) -> np.ndarray:
        energy = self._energies[j]
        if energy == 0:
            self._components[j] = rest
            self._turn(j, rest, 16384, 0)
        share = self._share(j, rest)
        self._ages[j] += 1
        self._energies[j] += share * share
        if energy:
            place = energy.bit_length() - 14
            b = _shift(share << 14, place)
            self._turn(j, rest, _shift(energy, place), clip(b, 131071))
            share = self._share(j, rest)
        rest = rest - (share * self._components[j] >> 14)
        return rest.clip(-LARGEST_SCALED, LARGEST_SCALED)

    def _share(self, j: int, rest: np.ndarray) -> int:
        """How much of a component the rest of a channel holds, in 1/16."""
        total = int(self._components[j] @ rest)
        size = min(abs(total) // (self._places << 6), 131071)
        return -size if total < 0 else size

    def _turn(self, j: int, rest: np.ndarray, a: int, b: int) -> None:
        turned = (a * self._components[j] + b * rest) >> 10
        norm = math.isqrt(int(turned @ turned) // self._places)
        if norm:
            most = 8 * norm - 1
            factor = (1 << 24) // norm
            self._components[j] = turned.clip(-most, most) * factor >> 14

    def _ease_of(self, j: int) -> int:
        """The fewer, the more of the energy a component holds."""
        if self._ages[j] == 0:
            return 0
        mean = self._energy // self._channels * 256
        chance = mean // min(self._channels, self._places)
        part = self._energies[j] // self._ages[j] - chance
        part = max(part, mean // 1024)
        return min(max(mean // part, 4), 65535) if part else 65535


def clip(x: int, limit: int) -> int:
    """`x` or the nearest of `-limit..limit`."""
    return min(max(x, -limit), limit)


def _shift(x: int, places: int) -> int:
    return x << -places if places < 0 else x >> places

"""A codebook that counts the bits: entropy-constrained quantization."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.entropy_constrained_levels import (
    PricedLevels,
    WeightClasses,
    class_numbers,
    class_weights,
    iterate,
    priced_intervals,
)
from keras_squeeze.quantizers.kmeans import KMeansQuantizer, positive_weights
from keras_squeeze.quantizers.kmeans_levels import SortedValues, optimal_levels
from keras_squeeze.quantizers.learned_codebook import (
    place_levels,
    round_levels,
    without_unused,
)

# A bit is worth so many times the squared error, on a fine grid.
_EXCHANGE_RATE = 2.0 * math.log(2.0)
# Prices, in octaves of the mean square, between which a target is searched.
_CHEAPEST, _DEAREST = -20.0, 8.0
_SEARCH_STEPS = 20
# Shares of the wanted entropy: what is aimed at, and where the search ends.
_AIM, _CLOSE_ENOUGH = 0.999, 0.99


class EntropyConstrainedQuantizer(KMeansQuantizer):
    """Codebook that minimises the squared error plus what the codes cost.

    K-means spends its levels where the weights are dense, so all codes are
    about equally frequent and an entropy coder gains little. Here the bits
    that such a coder needs for each code are part of the objective: levels
    are about equally spaced, frequent ones are wide, and at equal size of
    the file the error is smaller. Codes that nothing is worth are not used.

    Weights that are exactly zero stay so.

    Args:
        bits: Integer from 1 to 8: at most `2 ** bits` levels. More of them
            than the wanted entropy needs cost nothing, and with two bits more
            all that can be gained is. Defaults to `8`.
        granularity: String. `"per_tensor"`, the best for a coder; or
            `"per_channel"` and `"per_group"`: one codebook of values divided
            by the root mean square of their channel or group. Defaults to
            `"per_tensor"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        zero_level: Boolean. Whether there is a level at zero even where no
            weight is zero. Defaults to `False`.
        rate_weight: Optional float, not negative. What bits weigh, in units
            of their worth to a fine grid of the error that k-means with as
            many bits has; 0 is k-means. Defaults to `1.0`, if `entropy_bits`
            is not given.
        entropy_bits: Optional float above 0: the entropy of the codes, in
            bits a weight, not to exceed. Defaults to `None`.

    Raises:
        SqueezeError: If an argument is out of its range.

    Example:
    >>> weights = np.random.default_rng(0).laplace(size=5000)
    >>> quantizer = EntropyConstrainedQuantizer(bits=5, entropy_bits=2.0)
    >>> codes = quantizer.encode(weights).codes
    >>> shares = np.unique(codes, return_counts=True)[1] / 5000
    >>> bool(-shares @ np.log2(shares) <= 2.0)
    True

    References:
        - Chou, Lookabaugh and Gray, 1989, Entropy-constrained vector
          quantization.
    """

    id: ClassVar[str] = "entropy_constrained"
    takes_importance: ClassVar[bool] = True

    def __init__(
        self,
        bits: int = 8,
        granularity: str = "per_tensor",
        group_size: int | None = None,
        zero_level: bool = False,
        rate_weight: float | None = None,
        entropy_bits: float | None = None,
    ) -> None:
        super().__init__(bits, granularity, group_size, zero_level)
        _check_rate(rate_weight, entropy_bits)
        if entropy_bits is None and rate_weight is None:
            rate_weight = 1.0
        self.rate_weight = rate_weight
        self.entropy_bits = entropy_bits

    def codebook_rows(self, channels: int) -> int:
        """How many codebooks a tensor has.

        Args:
            channels: Integer.

        Returns:
            The integer `1`: all codes have one entropy coder.
        """
        return 1

    @property
    def _scales_blocks(self) -> bool:
        return self.granularity != "per_tensor"

    def _learn(
        self, values: NDArray[np.float32], weights: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        flat = values.reshape(-1)
        if not flat.size:
            return super()._learn(values, weights)
        shares = None if weights is None else positive_weights(weights).ravel()
        pinned = self.zero_level or bool((flat == 0).any())
        classes = WeightClasses.of(flat, shares, pinned)
        start = optimal_levels(
            [SortedValues.of(flat, shares)], 2**self.bits, [pinned]
        )[0]
        price, priced = self._search(classes, start, pinned)
        if price == 0.0:
            return super()._learn(values, weights)
        levels, kept = np.unique(
            round_levels(priced.levels, self.bits), return_index=True
        )
        penalties = price * priced.bits[kept]
        codebook, used = place_levels([levels], self.bits)
        codes = np.flatnonzero(used[0]) - 2 ** (self.bits - 1)
        if self.bits == 1:
            codes = 2 * codes + 1
        places = _cheapest(flat, shares, levels, penalties)
        if pinned:
            places[flat == 0] = np.searchsorted(levels, 0.0)
        found = codes[places].astype(np.int8)[None]
        return without_unused(codebook, found, self.bits), found.reshape(
            values.shape
        )

    def _search(
        self,
        classes: WeightClasses,
        start: NDArray[np.float64],
        pinned: bool,
    ) -> tuple[float, PricedLevels]:
        """The price of a bit, and the levels that it leads to."""
        free = iterate(classes, start, 0.0, pinned)
        if self.entropy_bits is None:
            price = (self.rate_weight or 0.0) * _EXCHANGE_RATE * free.error
            return price, self._levels(classes, start, price, pinned)
        if free.entropy <= self.entropy_bits:
            return 0.0, free
        return self._reach(classes, start, pinned, self.entropy_bits)

    def _reach(
        self,
        classes: WeightClasses,
        start: NDArray[np.float64],
        pinned: bool,
        wanted: float,
    ) -> tuple[float, PricedLevels]:
        mean = classes.squares / max(1, classes.count)
        price = mean * 2.0**_DEAREST
        best = price, self._levels(classes, start, price, pinned)
        # Each bit more divides the error, and so the price, by four.
        octave = min(max(0.5 - 2.0 * wanted, _CHEAPEST), _DEAREST)
        low, high = -math.inf, math.inf
        for _ in range(_SEARCH_STEPS):
            price = mean * 2.0**octave
            found = self._levels(classes, start, price, pinned)
            if found.entropy > _AIM * wanted:
                low = octave
            else:
                high = octave
                if found.error < best[1].error:
                    best = price, found
                if found.entropy >= _CLOSE_ENOUGH * wanted:
                    break
            octave = _between(low, high)
        return best

    def _levels(
        self,
        classes: WeightClasses,
        start: NDArray[np.float64],
        price: float,
        pinned: bool,
    ) -> PricedLevels:
        """The best of three iterations that begin differently."""
        starts = [start, np.zeros(1)]
        if price > 0:
            starts.append(self._even_levels(classes, price))
        found = [iterate(classes, s, price, pinned) for s in starts]
        return min(found, key=lambda item: item.error + price * item.entropy)

    def _even_levels(
        self, classes: WeightClasses, price: float
    ) -> NDArray[np.float64]:
        """The grid whose exchange rate is the price, as far as codes go."""
        step = math.sqrt(12.0 * price / _EXCHANGE_RATE)
        half = 2 ** (self.bits - 1)
        rows = [row.values for row in classes.rows if row.values.size]
        low = min((row[0] for row in rows), default=0.0)
        high = max((row[-1] for row in rows), default=0.0)
        below = min(max(round(-low / step), 0), half)
        above = min(max(round(high / step), 0), half - 1)
        return step * np.arange(-below, above + 1)

    def get_config(self) -> dict[str, Any]:
        """The quantizer as JSON-ready values.

        Returns:
            Dictionary with the `id` and the arguments of the constructor.
        """
        return {
            **super().get_config(),
            "rate_weight": self.rate_weight,
            "entropy_bits": self.entropy_bits,
        }


def _between(low: float, high: float) -> float:
    """The middle, or a step from the end that there is."""
    if math.isinf(low):
        return max(high - 1.0, _CHEAPEST)
    return min(low + 1.0, _DEAREST) if math.isinf(high) else (low + high) / 2


def _cheapest(
    values: NDArray[np.float32],
    weights: NDArray[np.float64] | None,
    levels: NDArray[np.float64],
    penalties: NDArray[np.float64],
) -> NDArray[np.intp]:
    """The level of least squared error and penalty for each value."""
    if weights is None:
        chosen, bounds = priced_intervals(levels, penalties)
        return chosen[np.searchsorted(bounds, values)]
    numbers = class_numbers(weights)
    places = np.zeros(len(values), np.intp)
    for number in np.unique(numbers):
        weight = float(class_weights(number))
        chosen, bounds = priced_intervals(levels, penalties / weight)
        members = numbers == number
        places[members] = chosen[np.searchsorted(bounds, values[members])]
    return places


def _check_rate(rate_weight: float | None, entropy_bits: float | None) -> None:
    if rate_weight is not None and entropy_bits is not None:
        raise SqueezeError(
            "Expected `rate_weight` or `entropy_bits`. Received: "
            f"rate_weight={rate_weight!r}, entropy_bits={entropy_bits!r}"
        )
    if rate_weight is not None and not 0 <= rate_weight < math.inf:
        raise SqueezeError(
            "Expected `rate_weight` not negative and finite. "
            f"Received: rate_weight={rate_weight!r}"
        )
    if entropy_bits is not None and not 0 < entropy_bits < math.inf:
        raise SqueezeError(
            "Expected `entropy_bits` above 0 and finite. "
            f"Received: entropy_bits={entropy_bits!r}"
        )

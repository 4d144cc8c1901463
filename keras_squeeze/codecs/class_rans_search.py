"""Choosing the contexts of `class_rans` for a tensor by their estimated cost.

Only the encoder comes here. Estimates may use floats: they decide how small
the stream is, never whether it can be decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import (
    class_rans_header,
    class_rans_layout,
    kernel_geometry,
)
from keras_squeeze.codecs.class_rans_alphabet import Tokens
from keras_squeeze.codecs.class_rans_contexts import (
    MAX_CLASSES,
    MAX_TABLES,
    NEIGHBOURS,
    NO_CLASSES,
    Contexts,
    Neighbour,
    ScaleClasses,
    levels_of,
)
from keras_squeeze.codecs.class_rans_estimates import (
    histogram_of,
    table_bits,
)
from keras_squeeze.codecs.class_rans_layout import Layout
from keras_squeeze.codecs.class_rans_table import Alphabet

_SAMPLE = 1 << 16
_SMALL = 400
# Magnitudes are averages of about so many weights.
_MEASURED = 256
_MOST_EXPONENT = 10
_STEPS_AN_OCTAVE = 4
_MERGES = (0, 1, 2)
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
    """Contexts, the view they need, and the bits they are expected to take."""

    bits: float
    view: str
    contexts: Contexts


def choose(
    array: np.ndarray,
    tokens_of: Tokens,
    escapes: bool,
    machines: Machines | None = None,
) -> list[Choice]:
    """The contexts with the shortest expected code.

    Args:
        array: Integer array; codes of a trellis, if there are machines.
        tokens_of: `Tokens` of its values, of the levels with a trellis.
        escapes: Boolean. Whether some values have no token.
        machines: Optional `Machines`, which fix the view.

    Returns:
        List of `Choice`: without contexts, and if that may be smaller, the
        best with scale classes and the best with neighbour classes.
    """
    alphabet = tokens_of.alphabet(escapes)
    states = machines.states if machines else 0
    kinds = [machines.layout.view] if machines else list(_views(array.shape))
    flat = machines.layout.view if machines else "flat"
    first = _Trial(array, flat, tokens_of, alphabet, machines)
    plain = Choice(first.cost(0.0), flat, Contexts(states=states))
    if array.size < _SMALL:
        return [plain]
    best: dict[bool, Choice] = {}
    for kind in kinds:
        trial = first
        if kind != flat:
            trial = _Trial(array, kind, tokens_of, alphabet, machines)
        # Every trial has a sample of its own: only ratios can be compared.
        ratio = plain.bits / max(trial.cost(0.0), 1.0)
        for choice in trial.choices(plain.bits / ratio):
            scaled = dataclasses.replace(choice, bits=choice.bits * ratio)
            near = choice.contexts.neighbour is not None
            best[near] = min(best.get(near, plain), scaled, key=judged)
    return [plain, *(c for c in best.values() if c is not plain)]


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


def _views(shape: Sequence[int]) -> Iterator[str]:
    if len(shape) < 2:
        return
    kind = kernel_geometry.default_kind(shape)
    yield kind
    if len(shape) == 3 and kind == "convolution":
        yield "matrix_first_axis"
    if len(shape) == 2 and kind == "matrix":
        # Neighbouring outputs may resemble each other.
        yield "matrix_transposed"


class _Trial:
    """One view of a tensor, or of a sample if it is large."""

    def __init__(
        self,
        array: np.ndarray,
        view: str,
        tokens_of: Tokens,
        alphabet: Alphabet,
        machines: Machines | None,
    ) -> None:
        layout = class_rans_layout.layout_of(array.shape, view, 1)
        if machines:
            layout = machines.layout
        self.layout, self.alphabet = layout, alphabet
        self.states = machines.states if machines else 0
        self.matrix = class_rans_layout.to_matrix(array, layout)
        sample = _sample(self.matrix.shape, layout)
        self.rows, self.columns = sample
        self.values = self.matrix[sample].astype(np.int32)
        if machines:
            self.values = levels_of(self.values)
        self.tokens = np.ascontiguousarray(tokens_of.of(self.values))
        self.grids: np.ndarray | None = None
        self.factor = 1
        if machines:
            self.grids = np.ascontiguousarray(machines.grids[sample])
            self.factor = 2
        self.weight = array.size / self.values.size

    def choices(self, limit: float) -> Iterator[Choice]:
        """Choices that are worth comparing."""
        scaled = list(self._scaled())
        yield from scaled
        scaled.sort(key=lambda c: c.bits)
        bases = [Contexts(states=self.states)]
        if scaled and scaled[0].bits < limit:
            bases += [
                c.contexts for c in scaled if c.contexts.scale.classes < 9
            ][:1]
        for contexts in bases:
            yield from self._neighboured(contexts)

    def cost(
        self,
        side: float,
        classes: np.ndarray | None = None,
        near: np.ndarray | None = None,
    ) -> float:
        """Bits with so many of side information, and with these classes.

        Args:
            side: Float.
            classes: Optional int16 array, the scale class of each element.
            near: Optional uint8 array, the neighbour class of each element.
        """
        histogram = histogram_of(
            self.tokens, self.alphabet, classes, near, self.grids
        )
        bits = table_bits(histogram, self.alphabet)
        # Side information is spread over more than the sample.
        return bits * self.weight + side + 16

    def _scaled(self) -> Iterator[Choice]:
        exponents = self._exponents()
        sides = {name: side_bits(z) for name, (z, _) in exponents.items()}
        for chosen in self._combinations(exponents):
            fine = np.zeros(self.values.shape, np.int16)
            side = float(sum(sides[name] for name in chosen))
            for name in chosen:
                z = exponents[name][1]
                fine += z[:, self.columns] if len(z) == 1 else z[self.rows]
            for classes in self._widths(fine):
                count, merge, offset = classes
                scale = self._make(exponents, chosen, count, merge, offset)
                context = np.clip(fine - offset, 0, (count << merge) - 1)
                bits = self.cost(side, context >> merge)
                contexts = Contexts(scale, None, self.states)
                yield Choice(bits, self.layout.view, contexts)

    def _exponents(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each kind of exponent the list, and the list to broadcast."""
        layout = self.layout
        rows, columns = self.matrix.shape
        some = self.matrix[:, :: max(columns // _MEASURED, 1)]
        by_position = np.abs(some.astype(np.float32))
        if some.shape[1] == columns:
            by_channel = by_position.mean(0)
        else:
            measured = self.matrix[:: max(rows // _MEASURED, 1)]
            by_channel = np.abs(measured.astype(np.float32)).mean(0)
        out = {}
        channels = _exponents(by_channel)
        out["channels"] = channels, channels[None]
        # What the channels explain is not the inputs' and the taps' any more.
        steps = channels[:: max(columns // _MEASURED, 1)]
        rest = by_position @ (2.0 ** (-steps / _STEPS_AN_OCTAVE))
        rest = rest.reshape(layout.taps, layout.inputs)
        inputs = _exponents(rest.mean(0))
        out["inputs"] = inputs, np.tile(inputs, layout.taps)[:, None]
        taps = _exponents(rest.mean(1))
        out["taps"] = taps, np.repeat(taps, layout.inputs)[:, None]
        return out

    def _combinations(
        self, exponents: dict[str, tuple[np.ndarray, np.ndarray]]
    ) -> list[tuple[str, ...]]:
        useful = [name for name, (z, _) in exponents.items() if z.any()]
        combinations: list[tuple[str, ...]] = [
            ("channels",),
            ("inputs",),
            ("channels", "inputs"),
            ("taps",),
            ("channels", "taps"),
            ("channels", "inputs", "taps"),
        ]
        return [c for c in combinations if all(n in useful for n in c)]

    def _widths(self, fine: np.ndarray) -> Iterator[tuple[int, int, int]]:
        low, high = _middle_part(fine)
        for merge in _MERGES:
            count = min(high - low + 1 + (1 << merge) - 1 >> merge, MAX_CLASSES)
            if count < 2:
                return
            if count * self.factor <= MAX_TABLES:
                spare = (high - low + 1 - (count << merge)) // 2
                yield count, merge, low + spare

    def _make(
        self,
        exponents: dict[str, tuple[np.ndarray, np.ndarray]],
        chosen: tuple[str, ...],
        classes: int,
        merge: int,
        offset: int,
    ) -> ScaleClasses:
        lists = {name: exponents[name][0].astype(np.int64) for name in chosen}
        lists[chosen[0]] = lists[chosen[0]] - offset
        return ScaleClasses(
            classes,
            merge,
            lists.get("channels"),
            lists.get("inputs"),
            lists.get("taps"),
        )

    def _neighboured(self, base: Contexts) -> Iterator[Choice]:
        layout, scale = self.layout, base.scale
        mean = float(np.abs(self.values, dtype=np.float32).mean())
        threshold = min(max(1, round(1.2 * mean)), 1 << 16)
        context: np.ndarray | None = None
        side = 0.0
        if scale is not NO_CLASSES:
            context = scale.matrix(layout, self.rows, self.columns)
            context = context.astype(np.int16)
            side = sum(side_bits(z) for z in _lists(scale))
        tables = NEIGHBOURS * scale.classes * self.factor
        for distance in self._distances():
            if tables > MAX_TABLES:
                return
            near = Neighbour(distance, threshold)
            classes = np.full(self.values.shape, 2, np.uint8)
            classes[distance:] = near.classify(self.values[:-distance])
            bits = self.cost(side, context, classes)
            contexts = Contexts(scale, near, self.states)
            yield Choice(bits, layout.view, contexts)

    def _distances(self) -> list[int]:
        layout = self.layout
        wanted = {1, layout.inputs, layout.inputs * layout.width}
        most = min(len(self.values), layout.positions) // 2
        return sorted(d for d in wanted if d <= most)


def _sample(shape: tuple[int, ...], layout: Layout) -> tuple[slice, slice]:
    """Some channels, and some positions in a row, of a large tensor."""
    rows, columns = shape
    if layout.view == "flat":
        return slice(0, rows, max(rows * columns // _SAMPLE, 1)), slice(None)
    step = min(max(rows * columns // _SAMPLE, 1), max(columns // 16, 1))
    most = max(_SAMPLE * step // columns, layout.inputs + 1, 64)
    return slice(0, min(rows, most)), slice(0, columns, step)


def _middle_part(fine: np.ndarray) -> tuple[int, int]:
    """The exponents that most weights have, the least and the greatest."""
    least = int(fine.min())
    counts = np.bincount((fine - least).reshape(-1))
    sums = np.cumsum(counts)
    low = int(np.searchsorted(sums, 0.01 * fine.size))
    high = int(np.searchsorted(sums, 0.99 * fine.size))
    return low + least, high + least


def _exponents(magnitudes: np.ndarray) -> np.ndarray:
    """Logarithms of magnitudes, in steps of the classes; int16."""
    positive = magnitudes[magnitudes > 0]
    if positive.size == 0:
        return np.zeros(magnitudes.size, np.int16)
    middle = np.exp(np.log(positive).mean())
    ratio = np.maximum(magnitudes / middle, 1e-9)
    steps = np.rint(_STEPS_AN_OCTAVE * np.log2(ratio))
    # A channel that is all zeros must not cost much to describe.
    most = _MOST_EXPONENT
    bounded: np.ndarray = np.clip(steps, -most, most)
    return bounded.astype(np.int16)


def _lists(scale: ScaleClasses) -> list[np.ndarray]:
    lists = (scale.channels, scale.inputs, scale.taps)
    return [z for z in lists if z is not None]


def scale_bits(scale: ScaleClasses) -> float:
    """What scale classes take, tables aside, in bits."""
    if scale is NO_CLASSES:
        return 0.0
    return 9 + sum(side_bits(exponents) for exponents in _lists(scale))


def side_bits(exponents: np.ndarray) -> float:
    """What a list of exponents takes, in bits."""
    return class_rans_header.rice_parameter(exponents)[1]

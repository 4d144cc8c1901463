"""Trying contexts of `class_rans` on a sample of a tensor.

Only the encoder comes here. Estimates decide how small the stream is, never
whether it can be decoded; no sum in them depends on the order of adding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import (
    class_rans_header,
    class_rans_layout,
    class_rans_native,
)
from keras_squeeze.codecs.class_rans_alphabet import Tokens
from keras_squeeze.codecs.class_rans_choice import Choice, Machines
from keras_squeeze.codecs.class_rans_contexts import (
    MAX_TABLES,
    NEIGHBOURS,
    NO_CLASSES,
    Contexts,
    Neighbour,
    ScaleClasses,
)
from keras_squeeze.codecs.class_rans_estimates import Estimator, Widths
from keras_squeeze.codecs.class_rans_layout import Layout
from keras_squeeze.codecs.class_rans_native_estimates import (
    MOST_NATIVE,
    NativeEstimator,
)
from keras_squeeze.codecs.class_rans_native_sample import NativeSample
from keras_squeeze.codecs.class_rans_sample import (
    MOST_EXPONENT,
    Partition,
    Sample,
    by_sums,
)
from keras_squeeze.codecs.class_rans_table import Alphabet
from keras_squeeze.codecs.logarithms import log2_of

_SAMPLE = 1 << 16
# Magnitudes are averages of about so many weights.
_MEASURED = 256
_STEPS_AN_OCTAVE = 4
# Whole numbers, in units of `2**-16`: products with sums of magnitudes, which
# are below `2**27`, are exact.
_SCALES = np.rint(
    2.0
    ** (16 - np.arange(-MOST_EXPONENT, MOST_EXPONENT + 1) / _STEPS_AN_OCTAVE)
)


class Source:
    """What all views of a tensor have in common.

    Args:
        array: Integer array; codes of a trellis, if there are machines.
        tokens_of: `Tokens` of its values, of the levels with a trellis.
        alphabet: `Alphabet` of these tokens.
        machines: Optional `Machines`.
    """

    def __init__(
        self,
        array: np.ndarray,
        tokens_of: Tokens,
        alphabet: Alphabet,
        machines: Machines | None,
    ) -> None:
        self.array, self.machines = array, machines
        self.tokens_of, self.alphabet = tokens_of, alphabet
        self.is_native = class_rans_native.available()

    def sample(
        self,
        matrix: np.ndarray,
        rows: slice,
        columns: slice,
        grids: np.ndarray | None,
    ) -> Sample:
        """A `Sample`, compiled where that is possible."""
        kind = NativeSample if self.is_native else Sample
        size = self.alphabet.tokens
        return kind(matrix, rows, columns, self.tokens_of, size, grids)

    def estimator(self, size: int) -> Estimator:
        """An `Estimator` for samples of that size."""
        if self.is_native and size < MOST_NATIVE:
            return self._native
        return Estimator(self.alphabet)

    @functools.cached_property
    def _native(self) -> NativeEstimator:
        return NativeEstimator(self.alphabet)


@dataclass(frozen=True, slots=True)
class _Scaled:
    """Scale classes that were tried.

    Args:
        bits: Float.
        names: Tuple of strings, the lists of exponents.
        widths: `Widths`.
    """

    bits: float
    names: tuple[str, ...]
    widths: Widths


class Trial:
    """One view of a tensor, or of a sample if it is large."""

    def __init__(self, source: Source, view: str) -> None:
        array, machines = source.array, source.machines
        layout = class_rans_layout.layout_of(array.shape, view, 1)
        if machines:
            layout = machines.layout
        self.matrix = class_rans_layout.to_matrix(array, layout)
        self.rows, self.columns = _sample(self.matrix.shape, layout)
        grids: np.ndarray | None = None
        if machines:
            chosen = machines.grids[self.rows, self.columns]
            grids = np.ascontiguousarray(chosen)
        self.layout, self.source = layout, source
        self.states = machines.states if machines else 0
        self.sample = source.sample(self.matrix, self.rows, self.columns, grids)
        self.weight = array.size / self.sample.values.size
        self.estimator = source.estimator(self.sample.values.size)

    def plain_bits(self) -> float:
        """Bits without contexts."""
        self._take_plain()
        return self._bits(self.estimator.finish()[0])

    def choices(self, plain_bits: float) -> Iterator[Choice]:
        """The best choice with scale classes, and that with neighbours.

        Args:
            plain_bits: Float. What the tensor takes without contexts.
        """
        self._take_plain()
        self.exponents = self._exponents()
        self.sides = {name: side_bits(z) for name, z in self.exponents.items()}
        tried = self._take_scaled()
        own, *found = self.estimator.finish()
        scaled = [
            _Scaled(self._bits(bits, self._side(names)), names, widths)
            for bits, (names, widths) in zip(found, tried, strict=True)
        ]
        # Every trial has a sample of its own: only ratios can be compared.
        ratio = plain_bits / max(self._bits(own), 1.0)
        bases: list[_Scaled | None] = [None]
        if scaled:
            best = min(scaled, key=lambda each: each.bits)
            yield self._choice(best.bits * ratio, best, None)
            if best.bits < plain_bits / ratio:
                few = [each for each in scaled if each.widths.classes < 9]
                bases += sorted(few, key=lambda each: each.bits)[:1]
        yield from self._neighboured(bases, ratio)

    def _bits(self, bits: float, side: float = 0.0) -> float:
        # Side information is spread over more than the sample.
        return bits * self.weight + side + 16

    def _side(self, names: Sequence[str]) -> float:
        return float(sum(self.sides[name] for name in names))

    def _take_plain(self) -> None:
        self.estimator.take(self.sample.counts(self._partition(())))

    def _take_scaled(self) -> list[tuple[tuple[str, ...], Widths]]:
        tried = []
        for names in _combinations(self.exponents):
            partition = self._partition(names)
            counts = self.sample.counts(partition)
            for widths in self.estimator.partitions(counts, partition.start):
                tried.append((names, widths))
        return tried

    def _partition(self, names: Sequence[str]) -> Partition:
        """By sums of lists of exponents."""
        rows, columns = self.sample.values.shape
        partition = by_sums(rows, columns, len(names))
        of_rows, of_columns = partition.of_rows, partition.of_columns
        layout = self.layout
        for name in names:
            exponents = self.exponents[name]
            if name == "channels":
                of_columns += exponents[self.columns]
            elif name == "inputs":
                of_rows += np.tile(exponents, layout.taps)[self.rows]
            else:
                of_rows += np.repeat(exponents, layout.inputs)[self.rows]
        return partition

    def _choice(
        self, bits: float, scaled: _Scaled | None, near: Neighbour | None
    ) -> Choice:
        scale, side = NO_CLASSES, 0.0
        if scaled is not None:
            side = 9 + self._side(scaled.names)
            names, widths = scaled.names, scaled.widths
            lists = {n: self.exponents[n].astype(np.int64) for n in names}
            lists[names[0]] -= widths.start
            scale = ScaleClasses(
                widths.classes,
                widths.merge,
                lists.get("channels"),
                lists.get("inputs"),
                lists.get("taps"),
            )
        contexts = Contexts(scale, near, self.states)
        return Choice(bits, self.layout.view, contexts, side)

    def _exponents(self) -> dict[str, np.ndarray]:
        """A list of exponents for channels, inputs and taps."""
        layout = self.layout
        rows, columns = self.matrix.shape
        step = max(columns // _MEASURED, 1)
        some = slice(None)
        if step > 1:
            some = slice(0, None, max(rows // _MEASURED, 1))
        channels = _exponents(self.sample.column_sums(some))
        # What the channels explain is not the inputs' and the taps' any more.
        apart = self.sample.row_sums(slice(0, None, step), channels[::step])
        rest = (apart @ _SCALES).astype(np.int64)
        rest = rest.reshape(layout.taps, layout.inputs)
        inputs = _exponents(rest.sum(0))
        taps = _exponents(rest.sum(1))
        return {"channels": channels, "inputs": inputs, "taps": taps}

    def _neighboured(
        self, bases: Sequence[_Scaled | None], ratio: float
    ) -> Iterator[Choice]:
        tried = []
        for base in bases:
            partition, side = self._partition(()), 0.0
            classes = base.widths.classes if base else 1
            tables = NEIGHBOURS * classes * (2 if self.states else 1)
            if tables > MAX_TABLES:
                continue
            if base is not None:
                widths, side = base.widths, self._side(base.names)
                partition = dataclasses.replace(
                    self._partition(base.names),
                    classes=widths.classes,
                    merge=widths.merge,
                    start=widths.start,
                )
            for distance in self._distances():
                near = Neighbour(distance, self._threshold)
                self.estimator.take(self.sample.counts(partition, near))
                tried.append((base, near, side))
        found = [
            (self._bits(bits, side), base, near)
            for bits, (base, near, side) in zip(
                self.estimator.finish(), tried, strict=True
            )
        ]
        if found:
            bits, base, near = min(found, key=lambda each: each[0])
            yield self._choice(bits * ratio, base, near)

    @functools.cached_property
    def _threshold(self) -> int:
        """From which magnitude on a neighbour is very large."""
        values = self.sample.values
        mean = int(np.abs(values).sum(dtype=np.int64)) / values.size
        return min(max(1, round(1.2 * mean)), 1 << 16)

    def _distances(self) -> list[int]:
        layout = self.layout
        wanted = {1, layout.inputs, layout.inputs * layout.width}
        most = min(len(self.sample.values), layout.positions) // 2
        return sorted(d for d in wanted if d <= most)


def _combinations(exponents: dict[str, np.ndarray]) -> list[tuple[str, ...]]:
    useful = [name for name, z in exponents.items() if z.any()]
    combinations: list[tuple[str, ...]] = [
        ("channels",),
        ("inputs",),
        ("channels", "inputs"),
        ("taps",),
        ("channels", "taps"),
        ("channels", "inputs", "taps"),
    ]
    return [c for c in combinations if all(n in useful for n in c)]


def _sample(shape: tuple[int, ...], layout: Layout) -> tuple[slice, slice]:
    """Some channels, and some positions in a row, of a large tensor."""
    rows, columns = shape
    if layout.view == "flat":
        return slice(0, rows, max(rows * columns // _SAMPLE, 1)), slice(None)
    step = min(max(rows * columns // _SAMPLE, 1), max(columns // 16, 1))
    most = max(_SAMPLE * step // columns, layout.inputs + 1, 64)
    return slice(0, min(rows, most)), slice(0, columns, step)


def _exponents(sums: np.ndarray) -> np.ndarray:
    """Logarithms of sums of magnitudes, in steps of the classes; int16."""
    positive = sums > 0
    if not positive.any():
        return np.zeros(sums.size, np.int16)
    logs = log2_of(sums)
    middle = logs[positive].sum() / np.count_nonzero(positive)
    steps = np.rint(_STEPS_AN_OCTAVE * (logs - middle))
    # A channel that is all zeros must not cost much to describe.
    steps[~positive] = -MOST_EXPONENT
    bounded: np.ndarray = np.clip(steps, -MOST_EXPONENT, MOST_EXPONENT)
    return bounded.astype(np.int16)


def side_bits(exponents: np.ndarray) -> float:
    """What a list of exponents takes, in bits."""
    return class_rans_header.rice_parameter(exponents)[1]

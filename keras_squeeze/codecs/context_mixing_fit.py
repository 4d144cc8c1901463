"""What the encoder of `context_mixing` chooses: the header of a stream.

All of it changes the size of a stream, none of it whether it can be decoded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_squeeze.codecs import context_mixing_model as models
from keras_squeeze.codecs import context_mixing_tables as tables
from keras_squeeze.codecs import kernel_geometry
from keras_squeeze.codecs.context_mixing_header import Header
from keras_squeeze.codecs.context_mixing_model import Model
from keras_squeeze.codecs.kernel_geometry import KINDS
from keras_squeeze.codecs.logarithms import log2_of
from keras_squeeze.codecs.threads import map_threads
from keras_squeeze.codecs.trellis import Trellis

# Arrays are tried whole up to this many elements, larger ones by a cut-out:
# for most choices, and for those that need to see it all.
_WHOLE, _SAMPLE = 1 << 17, 1 << 16
_HUGE = 1 << 21
# Components are looked for in magnitudes up to this; in small arrays they may
# not be there yet.
_LARGEST_PREDICTED, _SMALL = 1 << 16, 1 << 12
# Modelled signs must save this share: raw ones are decoded faster.
_WORTH = 0.998
# What signs that save so much are not worth another try for.
_CLEARLY = 0.98
_SHIFTS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128)
_NEAR_ZERO = 64
# Below this many elements threads cost more than they save.
_THREADED = 1 << 14
# The largest magnitude has a bucket of its own if it occurs so often, as where
# it sets the scale of every channel.
_FREQUENT, _LARGEST_TOP = 4, 1 << 16
# A share of zeros that needs no explanation.
_DENSE = 1.03

#: Codes a whole array with a header; what is compared is the length.
Encode = Callable[[np.ndarray, Header], bytes]


def largest_magnitude(array: np.ndarray, centre: int = 0) -> int:
    """The largest distance of an element from the centre."""
    return max(int(array.max()) - centre, centre - int(array.min()), 0)


def centred(array: np.ndarray, centre: int) -> np.ndarray:
    """Subtracts the centre, in the wrapping arithmetic of 64 bits."""
    if centre == 0:
        return array
    wide = array.astype(np.int64).view(np.uint64)
    return (wide - np.uint64(centre % (1 << 64))).view(np.int64)


def median(array: np.ndarray) -> int:
    """An element in the middle, as a Python integer."""
    flat = array.reshape(-1)
    flat = flat[:: max(flat.size // _SAMPLE, 1)]
    middle = flat.size // 2
    return int(np.partition(flat, middle)[middle])


def fixed_header(array: np.ndarray, trellis: Trellis | None) -> Header:
    """A header for an array without trying any other.

    Args:
        array: Integer array with at least two different elements.
        trellis: Optional `Trellis` that made the codes.

    Returns:
        `Header`.
    """
    centre = _centres(array)[0] if trellis is None else 0
    kind = plausible_kinds(array)[0] if trellis is None else trellis.geometry
    choice = _Choice(kind, models.CONTEXT_SIGNS, centre, True)
    return choice.header(array, trellis)


def best_stream(
    array: np.ndarray,
    trellis: Trellis | None,
    kinds: Sequence[str] | None,
    encode: Encode,
) -> bytes:
    """Tries what is plausible and takes the smallest.

    The geometry and the centre of an array are tried on all of it unless it
    is huge: a cut-out hides what lies far apart. The rest is tried on one.

    Args:
        array: Integer array with at least two different elements.
        trellis: Optional `Trellis` that made the codes.
        kinds: Optional sequence of strings, the geometries to try.
        encode: Callable that codes an array with a header.

    Returns:
        The stream.
    """
    kinds = kinds or plausible_kinds(array)
    kinds = kinds if trellis is None else [trellis.geometry]
    centres = _centres(array) if trellis is None else [0]
    mode = models.PREDICTED_SIGNS
    if largest_magnitude(array, centres[0]) > _LARGEST_PREDICTED:
        mode = models.CONTEXT_SIGNS
    best = _Choice(kinds[0], mode, centres[0], True)
    search = _Search(trellis, encode, {}, {})
    part = most = array
    if trellis is not None and array.size > _WHOLE:
        # A cut-out's chains would not start where the machine does.
        part = _first_channels(array, trellis.geometry, _SAMPLE)
    elif array.size > _WHOLE:
        part = _cut_out(array, _SAMPLE)
        most = part if array.size > _HUGE else array
    best = search.best(most, best, "kind", kinds[1:])
    best = search.best(most, best, "centre", centres[1:])
    first = best
    best = search.best(part, first, "mode", [models.RAW_SIGNS])
    if not search.is_much_better(part, best, models.RAW_SIGNS):
        best = search.best(part, best, "mode", _other_modes(first, array))
    best = search.best(part, best, "pruned", [False])
    return search.stream(array, best)


def _other_modes(choice: _Choice, array: np.ndarray) -> list[int]:
    modes = [models.CONTEXT_SIGNS]
    largest = largest_magnitude(array, choice.centre)
    if array.size <= _SMALL and largest <= models.FILTER_MAGNITUDE // 2:
        modes.append(models.FILTERED_SIGNS)
    return modes


@dataclass(frozen=True, slots=True)
class _Choice:
    """What is tried; all else follows from the array."""

    kind: str
    mode: int
    centre: int
    pruned: bool

    def header(self, array: np.ndarray, trellis: Trellis | None) -> Header:
        geometry = kernel_geometry.geometry_of(array.shape, self.kind)
        model = fit_model(array, self.mode, self.centre, trellis, self.pruned)
        return Header(geometry, model, self.centre, trellis)


@dataclass(frozen=True, slots=True)
class _Search:
    """Codes arrays by choices, and remembers the streams."""

    trellis: Trellis | None
    encode: Encode
    headers: dict[tuple[int, _Choice], Header]
    streams: dict[tuple[int, Header], bytes]

    def header(self, array: np.ndarray, choice: _Choice) -> Header:
        key = array.size, choice
        if key not in self.headers:
            self.headers[key] = choice.header(array, self.trellis)
        return self.headers[key]

    def stream(self, array: np.ndarray, choice: _Choice) -> bytes:
        header = self.header(array, choice)
        key = array.size, header
        if key not in self.streams:
            self.streams[key] = self.encode(array, header)
        return self.streams[key]

    def prepare(self, array: np.ndarray, choices: Sequence[_Choice]) -> None:
        """Codes by all choices at once, in threads."""
        headers = dict.fromkeys(self.header(array, one) for one in choices)
        new = [h for h in headers if (array.size, h) not in self.streams]
        coded = map_threads(lambda h: self.encode(array, h), new)
        for header, stream in zip(new, coded, strict=True):
            self.streams[array.size, header] = stream

    def cost(self, array: np.ndarray, choice: _Choice) -> float:
        size = len(self.stream(array, choice))
        return size * _WORTH if choice.mode == models.RAW_SIGNS else size

    def is_much_better(
        self, array: np.ndarray, choice: _Choice, mode: int
    ) -> bool:
        """Whether a choice that has been tried beats that of another mode."""
        other = dataclasses.replace(choice, mode=mode)
        return self.cost(array, choice) < _CLEARLY * self.cost(array, other)

    def best(
        self,
        array: np.ndarray,
        choice: _Choice,
        name: str,
        values: Sequence[Any],
    ) -> _Choice:
        """The choice, or the same with the best other value of a field."""
        if not values or array.min() == array.max():
            return choice
        choices = [choice]
        choices += [dataclasses.replace(choice, **{name: v}) for v in values]
        if array.size >= _THREADED:
            self.prepare(array, choices)
        return min(choices, key=lambda one: self.cost(array, one))


def plausible_kinds(array: np.ndarray) -> list[str]:
    """The geometries worth a try, the likeliest first.

    Args:
        array: Array of any shape.

    Returns:
        A list of names in `kernel_geometry.KINDS`.
    """
    if array.ndim < 2:
        return ["matrix_first_axis", "matrix"]
    first = kernel_geometry.default_kind(array.shape)
    others = [kind for kind in KINDS if kind != first]
    if array.ndim == 2:
        # The first axis is the input of a plain matrix already.
        others = [k for k in others if k in ("matrix", "matrix_transposed")]
    return [first, *others]


def _centres(array: np.ndarray) -> list[int]:
    """Zero, the median or both."""
    middle = median(array)
    if largest_magnitude(array) >= 1 << 31:
        return [middle]
    if middle == 0:
        return [0]
    low, high = int(array.min()), int(array.max())
    # Codes around zero seldom have a median far from it.
    if low < 0 < high and abs(middle) * _NEAR_ZERO < high - low:
        return [0]
    return [middle, 0]


def _first_channels(array: np.ndarray, kind: str, size: int) -> np.ndarray:
    """The first channels of an array, of about so many elements."""
    geometry = kernel_geometry.geometry_of(array.shape, kind)
    if geometry.channels == 1:
        return array
    share = max(size * geometry.channels // array.size, 1)
    axis = {
        "matrix_transposed": 0,
        "matrix_first_axis": 1,
        "convolution_transposed": array.ndim - 2,
    }.get(kind, array.ndim - 1)
    if kind == "matrix_first_axis":
        # The channels are all axes but the first, the second the slowest.
        share = max(share * array.shape[1] // geometry.channels, 1)
    return array[(slice(None),) * axis + (slice(share),)]


def _cut_out(array: np.ndarray, size: int) -> np.ndarray:
    """A part of the middle that is shorter along the longest axes."""
    shape = list(array.shape)
    while math.prod(shape) > size:
        longest = shape.index(max(shape))
        shape[longest] = (shape[longest] + 1) // 2
    corner = [(n - m) // 2 for n, m in zip(array.shape, shape, strict=True)]
    return array[
        tuple(slice(c, c + m) for c, m in zip(corner, shape, strict=True))
    ]


def fit_model(
    array: np.ndarray,
    mode: int,
    centre: int = 0,
    trellis: Trellis | None = None,
    pruned: bool = True,
) -> Model:
    """The parameters that describe the magnitudes of an array.

    Args:
        array: Integer array with at least two different elements.
        mode: Integer, the mode of the signs.
        centre: Integer. Defaults to `0`.
        trellis: Optional `Trellis` that made the codes.
        pruned: Boolean, whether to look for a gap around zero.

    Returns:
        `Model`.
    """
    largest = largest_magnitude(array, centre)
    sizes = np.abs(centred(array, centre).astype(np.int64))
    states = 0 if trellis is None else trellis.states
    hole, level = 1, largest + 1 >> 1
    if trellis is None:
        hole = int(sizes[sizes > 0].min()) if pruned else 1
        level = largest - hole + 1
    buckets, top = max(tables.bucket_of(level) + 1, 2), 0
    frequent = np.count_nonzero(sizes == largest) >= _FREQUENT
    if trellis is None and tables.EXACT < level < _LARGEST_TOP and frequent:
        buckets, top = tables.bucket_of(level - 1) + 2, level
    octaves = float(log2_of(sizes.sum()) - log2_of(sizes.size))
    mean_class = round(4 * (octaves + tables.SCALE_OCTAVES) - 0.5)
    mean_class = min(max(mean_class, 0), tables.class_count(buckets) - 1)
    model = Model(buckets, mean_class, mode, hole, 0, states, top)
    if trellis is None and pruned:
        share = np.count_nonzero(sizes) / sizes.size
        shift = _fit_shift(model, share)
        model = dataclasses.replace(model, shift=shift)
    return model


def _fit_shift(model: Model, share: float) -> int:
    """The shift with which about so many weights would not be zero."""

    def density(index: int) -> float:
        predicted = tables.predicted_density(
            model.mean_class, model.buckets, model.hole, _SHIFTS[index]
        )
        return max(predicted, 1) / 65536

    if density(0) < share * _DENSE:
        return 0
    low, high = 0, len(_SHIFTS) - 1
    # The density falls as the shift grows.
    while low < high:
        middle = (low + high) // 2
        if density(middle) > share * 1.02:
            low = middle + 1
        else:
            high = middle

    def far(index: int) -> float:
        ratio = density(index) / share
        return max(ratio, 1 / ratio)

    if low and far(low - 1) < far(low):
        low -= 1
    return _SHIFTS[low]

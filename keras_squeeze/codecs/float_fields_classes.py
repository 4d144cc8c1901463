"""Which frequency table a float's symbol is coded with.

Every element has a class, known before its symbol is: the sum of a small
number for its row, one for its column, and so on for whichever axes have
them. Where neighbours resemble each other along an axis, the elements with an
even index there come first, and those in between get their class from the two
neighbours, which are then known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from keras_squeeze.codecs.blocks import blocks, count_values, tiles
from keras_squeeze.codecs.float_fields_palette import Palette
from keras_squeeze.codecs.float_fields_split import Split

#: What gives symbols their meaning.
Alphabet: TypeAlias = Split | Palette

#: Slices along the axes before one, along it, and along those after it.
Part: TypeAlias = tuple[slice, slice, slice]

#: Classes are numbered in a byte.
MAX_CLASSES = 256
# Neighbours are compared as fixed-point numbers with this many binary places
# at the greatest usual exponent.
_PLACES = 12


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """How elements get their classes from those beside them.

    Args:
        axis: Integer. The axis along which neighbours are looked at.
        top: Integer. The greatest usual exponent field.
        edges: Integer array, ascending: where one class ends and the next
            begins.
    """

    axis: int
    top: int
    edges: np.ndarray

    def classes(
        self, symbols: np.ndarray, odd: int, split: Alphabet
    ) -> np.ndarray:
        """The classes of the elements in between.

        Args:
            symbols: Integer array, those of the elements with an even index
                along the axis.
            odd: Integer. How many elements lie in between along the axis.
            split: Split or Palette. What the symbols mean.

        Returns:
            uint8 array of the shape of the elements in between.
        """
        shape = list(symbols.shape)
        shape[self.axis] = odd
        found = np.empty(shape, np.uint8)
        for part, total in pair_sums(symbols, odd, self.axis, self.top, split):
            classes = np.searchsorted(self.edges, total.reshape(-1), "right")
            part_of(found, self.axis, part)[...] = classes.reshape(total.shape)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class ClassModel:
    """How classes are made.

    Args:
        offsets: Mapping of axis to uint8 array, one number an index.
        neighbours: Optional `Neighbours`.
    """

    offsets: Mapping[int, np.ndarray] = field(default_factory=dict)
    neighbours: Neighbours | None = None

    def scale_classes(self, shape: Sequence[int]) -> np.ndarray:
        """The sums of the offsets, uint8 of that shape, a view if they can."""
        total = np.zeros((1,) * len(shape), np.uint8)
        for axis, numbers in self.offsets.items():
            column = [1] * len(shape)
            column[axis] = -1
            total = total + numbers.reshape(column)
        return np.broadcast_to(total, tuple(shape))


def halves(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of the elements with an even and an odd index along an axis."""
    before = (slice(None),) * axis
    return array[(*before, slice(0, None, 2))], array[
        (*before, slice(1, None, 2))
    ]


def part_of(array: np.ndarray, axis: int, part: Part) -> np.ndarray:
    """A view of the part of an array that `pair_sums` names.

    Args:
        array: Array whose axes before `axis`, and those after it, can each be
            looked at as one.
        axis: Integer.
        part: Slices along these, the axis, and those.
    """
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    shape = math.prod(before), array.shape[axis], math.prod(after)
    return array.reshape(shape)[part]


def pair_sums(
    symbols: np.ndarray, odd: int, axis: int, top: int, split: Alphabet
) -> Iterator[tuple[Part, np.ndarray]]:
    """The sums of the two neighbours' values, in fixed point.

    At the far edge, where there is one neighbour, it counts twice.

    Args:
        symbols: Integer array of the elements with an even index.
        odd: Integer. How many elements lie in between along the axis.
        axis: Integer. The axis.
        top: Integer. The greatest usual exponent field.
        split: Split or Palette. What the symbols mean.

    Yields:
        Pairs of a part, as `part_of` takes it, and the sums there, int32.
    """
    limit = int(symbols.max(initial=0)) + 1
    worth = fixed_point(np.arange(limit), top, split)
    before, after = symbols.shape[:axis], symbols.shape[axis + 1 :]
    last = symbols.shape[axis] - 1
    shape = math.prod(before), odd, math.prod(after)
    for outer, along, inner in tiles(shape):
        right = slice(along.start, min(along.stop, last) + 1)
        part = part_of(symbols, axis, (outer, right, inner))
        values = worth[part]
        total = values[:, : along.stop - along.start].copy()
        total[:, : values.shape[1] - 1] += values[:, 1:]
        if along.stop > last:
            total[:, last - along.start :] += values[:, -1:]
        yield (outer, along, inner), total


def fixed_point(symbols: np.ndarray, top: int, split: Alphabet) -> np.ndarray:
    """What symbols are worth, as integers, int32.

    Args:
        symbols: Integer array.
        top: Integer. The exponent field that is worth the most; greater ones
            count as this one.
        split: Split or Palette. What the symbols mean.
    """
    heads = split.heads_of(symbols)
    fraction = (heads & (1 << split.kept) - 1) + (1 << split.kept)
    below = np.clip(top - (heads >> split.kept), 0, 31)
    worth = (fraction << _PLACES) >> below
    worth = np.where(split.is_negative(symbols), -worth, worth)
    return np.where(split.is_zero(symbols), 0, worth).astype(np.int32)


def group(symbols: np.ndarray, classes: np.ndarray) -> list[np.ndarray]:
    """The symbols of each class in order, one uint16 array a class."""
    counts, source = class_counts(classes), symbols.reshape(-1)
    if source.dtype == np.uint16 and np.count_nonzero(counts) <= 1:
        return np.split(source, np.cumsum(counts)[:-1])
    flat = classes.reshape(-1)
    ordered = np.empty(flat.size, np.uint16)
    for block, places in _places(flat, counts):
        ordered[places] = source[block]
    return np.split(ordered, np.cumsum(counts)[:-1])


def ungroup(groups: list[np.ndarray], classes: np.ndarray) -> np.ndarray:
    """Puts what `group` took apart together; of the classes' shape.

    Args:
        groups: List of uint16 arrays, emptied.
        classes: uint8 array.

    Returns:
        uint16 array.
    """
    if len(groups) == 1:
        return groups.pop().reshape(classes.shape)
    flat, counts = classes.reshape(-1), class_counts(classes)
    ordered, stop = np.empty(flat.size, np.uint16), flat.size
    while groups:
        # Each is gone when it has its place.
        some = groups.pop()
        ordered[stop - some.size : stop] = some
        stop -= some.size
    out = np.empty(flat.size, np.uint16)
    for block, places in _places(flat, counts):
        out[block] = ordered[places]
    return out.reshape(classes.shape)


def _places(
    classes: np.ndarray, counts: np.ndarray
) -> Iterator[tuple[slice, np.ndarray | slice]]:
    """Where the elements of block after block stand if ordered by class."""
    single = np.count_nonzero(counts) <= 1
    following = np.cumsum(counts) - counts
    for block in blocks(classes.size):
        if single:
            yield block, block
            continue
        chosen = classes[block]
        order = np.argsort(chosen, kind="stable")
        found = np.bincount(chosen, minlength=counts.size)
        first = following - (np.cumsum(found) - found)
        places = np.empty(chosen.size, np.int64)
        places[order] = np.arange(chosen.size) + np.repeat(first, found)
        following += found
        yield block, places


def class_counts(classes: np.ndarray) -> np.ndarray:
    """How many elements each class has, up to the last that has any."""
    if classes.size and not any(classes.strides):
        # Broadcast from one number: counting would touch every element.
        only = int(classes.flat[0])
        return np.array([0] * only + [classes.size], np.int64)
    return count_values(classes.reshape(-1))

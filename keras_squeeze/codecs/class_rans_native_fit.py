"""Fitting tables of `class_rans` by the compiled kernels."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from keras_squeeze.codecs import class_rans_family
from keras_squeeze.codecs.class_rans_explicit import STRETCHES
from keras_squeeze.codecs.class_rans_native import address, kernel_function
from keras_squeeze.codecs.class_rans_table import (
    CODE_LENGTHS,
    ESCAPED_TOKEN_BITS,
    MOST_SHIFT,
    Alphabet,
)

if TYPE_CHECKING:
    from keras_squeeze.codecs.class_rans_fitting import NamedTables


def native_moments(
    histogram: np.ndarray, alphabet: Alphabet
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """See `class_rans_fitting.moments`."""
    counts = np.ascontiguousarray(histogram, np.int64)
    tables, size = counts.shape
    shape = 2, tables, class_rans_family.DISTANCES
    folded, numbers = np.empty(shape), np.empty((2, tables), np.int64)
    usual, moved = folded
    zeros, shifts = numbers
    reach = np.empty(2, np.int64)
    kernel = kernel_function("ks_class_rans_moments", None, "pqqiiippppp")
    kernel(
        address(counts),
        tables,
        size,
        alphabet.plain,
        alphabet.center,
        MOST_SHIFT,
        address(usual),
        address(moved),
        address(zeros),
        address(shifts),
        address(reach),
    )
    first, second = reach.tolist()
    return usual[:, :first], moved[:, :second], zeros, shifts


def native_fit(
    histogram: np.ndarray,
    alphabet: Alphabet,
    named: NamedTables,
    mantissas: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """See `class_rans_fitting.best_named` and `fit_explicit`."""
    counts = np.ascontiguousarray(histogram, np.int64)
    tables, tokens = counts.shape
    candidates = len(named.sizes)
    frequencies, bits = np.empty((tables, tokens), np.int64), np.empty(tables)
    # Which candidate is best; of explicit tables sizes, modes and mantissas.
    found = np.empty((4, tables), np.int64)
    counts_at, numbers_at = address(counts), address(named.numbers)
    results = address(frequencies), address(bits)
    best_at = address(found)
    own = [best_at + i * found.strides[0] for i in range(1, 4)]
    constants, _kept = _constants()
    kernel_function("ks_class_rans_named", None, "pqiiiqppppdpppppp")(
        counts_at,
        tables,
        alphabet.plain,
        alphabet.escape,
        alphabet.center,
        candidates,
        *(numbers_at + i * named.numbers.strides[0] for i in range(3)),
        _integers_at(named.sizes),
        ESCAPED_TOKEN_BITS,
        *constants[:3],
        *results,
        best_at,
    )
    kernel_function("ks_class_rans_explicit", None, "pqiidpqppppppp")(
        counts_at,
        tables,
        tokens,
        alphabet.escape,
        ESCAPED_TOKEN_BITS,
        _integers_at(mantissas),
        len(mantissas),
        constants[3],
        constants[2],
        *results,
        *own,
    )
    return frequencies, bits, found[0], found[1:]


@functools.cache
def _constants() -> tuple[list[int], list[np.ndarray]]:
    """Where tables that never change are, and these tables."""
    arrays = [
        class_rans_family.family(),
        class_rans_family.totals(),
        CODE_LENGTHS,
        STRETCHES,
    ]
    return [address(array) for array in arrays], arrays


_KEPT: list[np.ndarray] = []


@functools.cache
def _integers_at(values: tuple[int, ...]) -> int:
    """Where these integers are; they are few, and stay."""
    _KEPT.append(np.array(values, np.int64))
    return address(_KEPT[-1])

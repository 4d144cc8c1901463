"""Sparse tensors against the floor: positions and values cannot cost less.

`k` values that are not zero lie anywhere among `N`: `log2 C(N, k)` bits say
where, and the order-0 entropy of the values says what.
"""

from __future__ import annotations

import math

import numpy as np

from keras_squeeze import codecs

_SHAPE = (1024, 1024)
_SPARSITIES = (0.9, 0.99, 0.999)
_LARGEST = 7


def sparse_codes(sparsity: float) -> np.ndarray:
    """Normally distributed values of four bits at random places."""
    rng = np.random.default_rng(0)
    count = round((1 - sparsity) * math.prod(_SHAPE))
    values = np.rint(rng.normal(0, 2.5, count)).clip(-_LARGEST, _LARGEST)
    values = np.where(values == 0, 1, values)
    codes = np.zeros(math.prod(_SHAPE), np.int8)
    codes[rng.choice(codes.size, count, replace=False)] = values
    return codes.reshape(_SHAPE)


def floor_bits(codes: np.ndarray) -> float:
    """What positions and values cost at least."""
    values = codes[codes != 0]
    size, count = codes.size, values.size
    places = math.lgamma(size + 1) - math.lgamma(count + 1)
    places = (places - math.lgamma(size - count + 1)) / math.log(2)
    counts = np.unique(values, return_counts=True)[1]
    return places - float((counts * np.log2(counts / count)).sum())


def print_table() -> None:
    names = ("class_rans", "context_mixing", "sparse", "rans")
    print(f"| zeros | floor, bytes |{'|'.join(names)}|")
    print("|---|---|" + "---|" * len(names))
    for sparsity in _SPARSITIES:
        codes = sparse_codes(sparsity)
        floor = floor_bits(codes) / 8
        sizes = [len(codecs.get(name).encode(codes)) for name in names]
        cells = "|".join(f"{100 * (s / floor - 1):+.2f} %" for s in sizes)
        print(f"| {sparsity:.1%} | {floor:,.0f} |{cells}|")

"""Reading the side information of `class_rans` by the compiled kernels.

Damage is only noticed: whoever calls reads again in Python, which says what
is wrong.
"""

from __future__ import annotations

import ctypes

import numpy as np

from keras_squeeze.codecs import class_rans_family
from keras_squeeze.codecs.class_rans_bits import BitReader
from keras_squeeze.codecs.class_rans_native import address, kernel_function
from keras_squeeze.codecs.class_rans_table import Alphabet

_Q = ctypes.c_int64


def native_read_tables(
    reader: BitReader, count: int, alphabet: Alphabet
) -> np.ndarray | None:
    """See `class_rans_table.read_tables`; `None` if they are damaged."""
    out = np.empty((count, alphabet.tokens), np.int64)
    family, totals = class_rans_family.family(), class_rans_family.totals()
    kernel = kernel_function("ks_class_rans_read_tables", _Q, "pqqqiiippp")
    position = kernel(
        address(reader.packed),
        reader.size,
        reader.position,
        count,
        alphabet.plain,
        alphabet.escape,
        alphabet.center,
        address(family),
        address(totals),
        address(out),
    )
    if position < 0:
        return None
    reader.position = position
    return out


def native_read_exponents(
    reader: BitReader, count: int, most: int
) -> np.ndarray | None:
    """Reads a list of exponents; `None` if it is damaged.

    Args:
        reader: `BitReader` at the first bit.
        count: Integer. How many there are.
        most: Integer. How large one may be.

    Returns:
        Optional int64 array.
    """
    out = np.empty(count, np.int64)
    kernel = kernel_function("ks_class_rans_read_exponents", _Q, "pqqqip")
    position = kernel(
        address(reader.packed),
        reader.size,
        reader.position,
        count,
        most,
        address(out),
    )
    if position < 0:
        return None
    reader.position = position
    return out

"""`float_residual`, written from docs/increment_format.md alone."""

import numpy as np

from tests.independent.codecs import Data
from tests.independent.float_lists import a_list, tails
from tests.independent.float_residual_units import LEAST, Element, merge

BLOCK = 2**19


def decode(data, dtype, base):
    shape, real = base.shape, dtype
    if dtype.kind == "c":
        real, shape = np.dtype(f"f{dtype.itemsize // 2}"), (*shape, 2)
    matrix, out = base.ravel().view(real), []
    columns = shape[-1] if len(shape) > 1 else matrix.size
    matrix = matrix.reshape(-1, columns)
    rows = max(1, BLOCK // columns)
    for top in range(0, len(matrix), rows):
        for left in range(0, columns, BLOCK):
            part = matrix[top : top + rows, left : left + BLOCK]
            stored = Data(data.read(data.varint()))
            out.append(block(stored, real, part).ravel())
            assert not stored.read()
    return np.concatenate(out).view(dtype)


def block(data, real, base):
    flags, trim, guard = data.read(3)
    k, (p, e) = flags & 3, LEAST[real.name]
    zero = base.view(f"<u{real.itemsize}") == 0
    if flags >> 4 & 1:
        zero = zero ^ a_list(data, "?", base.size).reshape(base.shape)
    given = [x[~zero].tolist() for x in (base, *read_steps(data, flags, base))]
    elements = [
        Element(value, step, still, p - trim, e + trim, guard)
        for value, step, still in zip(*given, strict=True)
    ]
    merge(elements)
    read_differences(data, elements, k, guard)
    widths = [x.tail_bits() for x in elements]
    found = [
        x.value(width, tail)
        for x, width, tail in zip(
            elements, widths, tails(data, widths), strict=True
        )
    ]
    found = np.array(found).astype(real)
    none = np.array([x.number == 0 for x in elements], bool)
    found[none] = data.raw(real, none.sum())
    out = np.zeros(base.shape, real)
    out[~zero] = found
    return out


def read_steps(data, flags, base):
    """The step of each element, and whether it is still."""
    steps, still = np.zeros(base.shape, int), np.zeros(base.shape, bool)
    if flags >> 5 & 1:
        return steps, ~still
    steps += data.signed()
    for bit, (rows, columns) in ((2, (len(base), 1)), (3, (1, base.shape[1]))):
        if flags >> bit & 1:
            a = a_list(data, "<u2", rows * columns).reshape(rows, columns)
            still |= a == 0
            steps += a.astype(int) - 1
    return steps, still


def read_differences(data, elements, k, guard):
    for number in sorted({x.group for x in elements}):
        own = [x for x in elements if x.group == number]
        symbols = a_list(data, "<u2", len(own)).tolist()
        for x, token in zip(own, symbols, strict=True):
            if token and number > 16:
                token -= guard - (x.level >> 1) << k
            x.rest = max((token >> k) - 1, 0)
            x.size = token - (x.rest << k)
    moved = [x for x in elements if x.size]
    flips = a_list(data, "?", len(moved)).tolist()
    low = tails(data, [x.rest for x in elements])
    for x, bits in zip(elements, low, strict=True):
        x.size = (x.size << x.rest) + bits
    for x, flip in zip(moved, flips, strict=True):
        x.number += -x.size if flip != (x.base < 0) else x.size

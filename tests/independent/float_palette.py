"""The palette of `float_fields`, from docs/float_fields_format.md alone."""

import numpy as np

from tests.independent.float_lists import a_list


def palette(data, real):
    count, kind = data.varint() + 1, data.read(1)[0]
    word = np.dtype(f"<u{real.itemsize}")
    if kind == 0:
        return data.raw(word, count).astype("u8")
    step, least = data.raw(real, 1), data.signed()
    factors = count - kind // 2
    gaps = a_list(data, "u1", factors - 1).astype(int) + 1
    values = np.cumsum([least, *gaps]).astype(real) * step
    zero = [-0.0] * (kind // 2)
    found = np.concatenate([values, np.array(zero, real)])
    return np.sort(found.view(word).astype("u8"))

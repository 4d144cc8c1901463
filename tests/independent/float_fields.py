"""The codec `float_fields`, written from docs/float_fields_format.md alone."""

import math

import ml_dtypes
import numpy as np

from tests.independent.codecs import Data
from tests.independent.float_lists import a_list, tails
from tests.independent.float_palette import palette


def decode(data, dtype, shape):
    kind = data.read(1)[0]
    if kind == 0:
        return data.raw(dtype, math.prod(shape)).reshape(shape)
    real, axes = dtype, tuple(shape) or (1,)
    if dtype.kind == "c":
        real, axes = np.dtype(f"f{dtype.itemsize // 2}"), (*axes, 2)
    mantissa, flags = ml_dtypes.finfo(real).nmant, data.read(1)[0]
    k, signed = flags & 15, flags >> 4 & 1
    if kind == 2:
        k, values = min(4, mantissa), palette(data, real)
        signs, numbers = np.divmod(values, 1 << 8 * real.itemsize - 1)
        heads = (numbers >> mantissa - k).astype(int)
        heads[numbers == 0] = -1
    else:
        low, trim, grain = data.varint(), data.read(1)[0], data.varint()
        grain = np.full(axes, grain)
        if flags >> 6 & 1:
            grain += along(0, axes, a_list(data, "u1", axes[0]).astype(int))
        plain = np.arange(1 << 16)
        plain, signs = np.divmod(plain, 2) if signed else (plain, 0 * plain)
        heads = np.where(plain, plain - 1 + low, -1)
    mask, classes = data.varint(), np.zeros(axes, int)
    for axis, size in enumerate(axes):
        if mask >> axis & 1:
            classes += along(axis, axes, a_list(data, "u1", size).astype(int))
    symbols, first = np.zeros(axes, int), np.ones(axes, bool)
    if flags >> 5 & 1:
        axis, top = data.read(1)[0], data.varint()
        edges = [data.signed() for _ in range(data.read(1)[0])]
        np.moveaxis(first, axis, 0)[1::2] = False
    read_classes(data, symbols, classes, first)
    if not first.all():
        v = (1 << k) + heads % (1 << k) << 12
        v = np.where(heads < 0, 0, v >> np.clip(top - (heads >> k), 0, 31))
        v = np.moveaxis(np.where(signs, -v, v)[symbols], axis, 0)[::2]
        sums = (v + np.concatenate([v[1:], v[-1:]]))[: axes[axis] // 2]
        chosen = np.searchsorted(edges, sums, "right")
        np.moveaxis(classes, axis, 0)[1::2] = chosen
        read_classes(data, symbols, classes, ~first)
    if kind == 2:
        bits = values[symbols]
    else:
        heads, signs = heads[symbols].ravel(), signs[symbols].ravel()
        bits = fields(
            data, heads, signs, grain.ravel(), (k, mantissa, trim, signed, real)
        )
    return np.array(bits, f"<u{real.itemsize}").view(dtype).reshape(shape)


def along(axis, axes, numbers):
    return numbers.reshape([-1] + [1] * (len(axes) - axis - 1))


def read_classes(data, symbols, classes, where):
    for number in range(256):
        chosen = where & (classes == number)
        if chosen.any():
            part = Data(data.read(data.varint()))
            symbols[chosen] = part.rans(np.dtype("<u2"), chosen.sum())


def fields(data, heads, signs, grains, form):
    k, mantissa, trim, signed, real = form
    rest, widths, kept = mantissa - k, [], []
    for head, grain in zip(heads.tolist(), grains.tolist(), strict=True):
        gone = min(max(grain - max(head >> k, 1), trim), rest)
        kept.append(0 if head < 0 else rest - gone)
        widths.append(kept[-1] + (not signed))
    found = tails(data, widths)
    out = []
    for tail, width, head, sign in zip(
        found, kept, heads.tolist(), signs.tolist(), strict=True
    ):
        over, tail = divmod(tail, 1 << width)
        bits = (max(head, 0) << rest) + (tail << rest - width)
        out.append(bits + ((sign + over) << 8 * real.itemsize - 1))
    return out

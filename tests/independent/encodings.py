"""How parts make a variable, as docs/format.md says."""

import numpy as np

NF4 = """-1 -0.6961928009986877 -0.5250730514526367 -0.39491748809814453
-0.28444138169288635 -0.18477343022823334 -0.09105003625154495 0
0.07958029955625534 0.16093020141124725 0.24611230194568634 0.33791524171829224
0.44070982933044434 0.5626170039176941 0.7229568362236023 1"""


def variable(record, parts):
    decode = {"values": lambda values: values, "packed": packed}
    decode = decode.get(record.get("encoding", "values"), scaled)
    parameters = dict(record.get("parameters", {}))
    parameters.pop("trellis", None)
    array = decode(**parts, **parameters)
    return array.astype(record["dtype"]).reshape(record["shape"])


def packed(codes, width):
    fields = np.zeros((8 // width, -(-codes.size * width // 8)), "u1")
    fields.flat[: codes.size] = codes < 0 if width == 1 else codes % 2**width
    return sum(row << i * width for i, row in enumerate(fields))


def scaled(codes, scale, axis, bits, group_size, codebook=None, zero_point=0):
    rows = to_rows(codes, axis, scale).astype(int)
    if codebook is not None:
        index = (rows + 1) // 2 if bits == 1 else rows + 2 ** (bits - 1)
        levels = levels_of(codebook, bits, len(rows))
        rows = np.take_along_axis(levels, index, 1)
    values = rows.astype("f4") * spread(scale, rows, group_size)
    return from_rows(values, axis, codes.shape)


def to_rows(array, axis, scale):
    return np.moveaxis(array, axis, range(len(axis))).reshape(len(scale), -1)


def from_rows(rows, axis, shape):
    front = [shape[i] for i in axis]
    front += [n for i, n in enumerate(shape) if i not in axis]
    return np.moveaxis(rows.reshape(front), range(len(axis)), axis)


def spread(scale, rows, group_size):
    group = np.arange(rows.shape[1]) // (group_size or max(rows.shape[1], 1))
    return scale[:, group]


def levels_of(codebook, bits, channels):
    if isinstance(codebook, str):
        codebook = fixed(codebook, bits)
    return np.broadcast_to(codebook, (channels, 2**bits))


def fixed(name, bits):
    if name == "nf4":
        return np.array(NF4.split(), "f4")
    n, i = min(2 ** (bits - 1) - 1, 63), np.arange(1, 2 ** (bits - 1))
    kinds = {"float8_e4m3": (8, 7, 126), "float8_e5m2": (4, 15, 123)}
    steps, bias, count = kinds.get(name, (1, n, n))
    exponents, parts = np.divmod(i, steps)
    scale = 2.0 ** (np.maximum(exponents, 1) - bias)
    up = np.where(i <= count, (parts / steps + (exponents > 0)) * scale, 0)
    # Adding zero makes positive zeros of negative ones.
    return np.concatenate([[0], -up[::-1], [0], up]).astype("f4") + 0


def predicted(array, parts, axis, bits, group_size, codebook=None, **_):
    """The codes that a base's values predict (docs/increment_format.md)."""
    rows = to_rows(array.astype("f8"), axis, parts["scale"])
    with np.errstate(all="ignore"):
        rows = rows / spread(parts["scale"], rows, group_size).astype("f8")
    rows = np.where(np.isfinite(rows), rows, 0)
    codebook = parts.get("codebook", codebook)
    if codebook is None:
        return from_rows(np.rint(rows), axis, array.shape)
    codes = np.arange(2**bits) - 2 ** (bits - 1)
    if bits == 1:
        codes = np.array([-1, 1])
    levels = levels_of(codebook, bits, len(rows)).astype("f8")
    out = np.zeros(rows.shape)
    for row, values in enumerate(rows):
        for i, value in enumerate(values):
            keys = zip(
                abs(levels[row] - value),
                abs(levels[row]),
                -levels[row],
                abs(codes),
                codes,
                strict=True,
            )
            out[row, i] = min(keys)[-1]
    return from_rows(out, axis, array.shape)

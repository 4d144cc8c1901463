"""Increments, written from docs/increment_format.md alone."""

import dataclasses

import numpy as np

from tests.independent import encodings
from tests.independent import float_residual as residual
from tests.independent.float_lists import a_list
from tests.independent.parts import decode

CODECS = {"same", "difference", "float_residual"}


def whole(own, base, runs):
    """The tensors of a file and those of its base that are unchanged."""
    own, found = list(own.items()), []
    for index in range(len(own) + 1):
        for place, first, count in runs:
            if place == index:
                same = list(base.items())[first : first + count]
                found += [
                    (name, dataclasses.replace(tensor, reference=tensor))
                    for name, tensor in same
                ]
        found += own[index : index + 1]
    assert len(dict(found)) == len(found)
    return dict(found)


def part(data, codec, form, about):
    """A part in one of these codecs."""
    (dtype, shape), base = form, compared(data, codec, form, *about)
    assert base.dtype == dtype and base.shape == shape
    if codec["id"] == "same":
        return base
    if codec["id"] == "float_residual":
        out = residual.decode(data, dtype, base) if base.size else base
        return out.reshape(shape)
    if dtype.kind == "b":
        return decode(data, codec["codec"], dtype, shape) ^ base
    less = decode(data, codec["codec"], np.dtype(f"i{dtype.itemsize}"), shape)
    words = np.dtype(f"u{dtype.itemsize}")
    return (less.view(words) + base.view(words)).view(dtype)


def compared(data, codec, form, role, record, parts, reference):
    """What a part is compared with."""
    array, encoding = reference.array, record.get("encoding", "values")
    if codec.get("momentum"):
        array = with_momentum(data, reference)
    if role == "values":
        return array
    if role != "codes" or encoding == "packed":
        return reference.parts[role]
    if not codec.get("momentum") and alike(record, parts, reference):
        return reference.parts["codes"]
    codes = encodings.predicted(array, parts, **record["parameters"])
    limits = np.iinfo(form[0])
    return codes.clip(limits.min, limits.max).astype(form[0])


def alike(record, parts, reference):
    """Whether all but the codes is that of the reference, bit for bit."""

    def settings(record):
        given = record.get("parameters", {}).items()
        return record.get("encoding"), {
            k: v for k, v in given if k != "trellis"
        }

    def others(parts):
        return {
            k: (v.shape, v.tobytes()) for k, v in parts.items() if k != "codes"
        }

    return settings(record) == settings(reference.record) and others(
        parts
    ) == others(reference.parts)


def with_momentum(data, reference):
    """What the reference becomes if it goes on as it went."""
    r, q = reference.array, reference.reference.array
    columns = r.shape[-1] if r.ndim > 1 else 1
    rows = a_list(data, "?", r.size // columns)
    c = a_list(data, "i1", columns)
    x, y = (v.astype("f8").reshape(-1, columns) for v in (r, q))
    with np.errstate(all="ignore"):
        moved = (x + (x - y) * c / 16).astype(r.dtype)
    use = rows[:, None] & np.isfinite(moved.astype("f8"))
    return np.where(use, moved, r.reshape(x.shape)).reshape(r.shape)

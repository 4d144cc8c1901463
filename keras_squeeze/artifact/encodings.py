"""How the parts of a tensor make its values, and what parts there must be.

A record is checked against this before anything of it is decoded: sizes are
those that the tensor's shape asks for, and nothing else is allocated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.fixed_codebooks import fixed_codebook
from keras_squeeze.quantizers.layout import canonical_shape, group_count

ENCODINGS = ("values", "packed", "quantized", "affine", "codebook")

#: Encodings that readers of the first release do not know: the manifest of a
#: file that holds one lists it in `requires`.
LATER_ENCODINGS = frozenset({"affine", "codebook"})

#: The codebooks that a file may name instead of holding them.
FIXED_CODEBOOKS = ("nf4", "float8_e4m3", "float8_e5m2", "power_of_two")

_ROLES = {
    "values": ("values",),
    "packed": ("codes",),
    "quantized": ("codes", "scale"),
    "affine": ("codes", "scale", "zero_point"),
}
_CODE_DTYPES = {
    "quantized": ("int8", "int16"),
    "affine": ("int8", "int16", "int32"),
    "codebook": ("int8",),
}
_MOST_CODEBOOK_BITS = 8

#: Role, name of the dtype and shape of a part.
Layout = tuple[str, str, tuple[int, ...]]


def roles_of(encoding: str, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts of an encoding, in the order in which they are stored.

    Args:
        encoding: String, one of `ENCODINGS`.
        parameters: Mapping. The encoding's parameters.

    Returns:
        Tuple of strings.

    Example:
    >>> roles_of("codebook", {"codebook": "nf4"})
    ('codes', 'scale')
    """
    if encoding != "codebook":
        return _ROLES[encoding]
    named = parameters.get("codebook") is not None
    return ("codes", "scale") if named else ("codes", "scale", "codebook")


def name_of_codebook(codebook: NDArray[np.float32], bits: int) -> str | None:
    """The name of a codebook that needs not be stored.

    Args:
        codebook: float32 array of shape `(rows, 2 ** bits)`.
        bits: Integer.

    Returns:
        String, or `None` if the codebook is none of the fixed ones, bit for
        bit.
    """
    for name in FIXED_CODEBOOKS if len(codebook) == 1 else ():
        try:
            levels = fixed_codebook(name, bits)
        except SqueezeError:
            continue
        if levels.tobytes() == codebook[0].tobytes():
            return name
    return None


def check_layout(
    encoding: str,
    parameters: Mapping[str, Any],
    shape: tuple[int, ...],
    parts: Sequence[Layout],
) -> None:
    """Raises unless quantized parts are those that the encoding asks for.

    Args:
        encoding: String. `"values"` and `"packed"` are not looked at: their
            one part says all.
        parameters: Mapping. The encoding's parameters.
        shape: Tuple of integers. The variable's shape.
        parts: Sequence of triples `(role, dtype, shape)`.

    Raises:
        ValueError: If a part or a parameter is not as it must be.
    """
    if encoding in ("values", "packed"):
        return
    _require(
        tuple(role for role, _, _ in parts) == roles_of(encoding, parameters),
        f"the parts {roles_of(encoding, parameters)}",
        [role for role, _, _ in parts],
    )
    bits = _bits(encoding, parameters.get("bits"))
    if encoding == "codebook" and len(parts) == 2:
        _check_name(parameters["codebook"], bits)
    scale = _scale_shape(parameters, shape)
    for role, dtype, found in parts:
        dtypes, shapes = _expected(encoding, role, bits, shape, scale)
        _require(dtype in dtypes, f"{role} in {' or '.join(dtypes)}", dtype)
        _require(found in shapes, f"{role} of the shape {shapes[-1]}", found)


def check_codes(
    codes: NDArray[Any], bits: int, zero_point: NDArray[Any] | None = None
) -> None:
    """Raises unless codes fit their width.

    Args:
        codes: Array of integers.
        bits: Integer. Width of a code.
        zero_point: Optional array that broadcasts against `codes`: what must
            be added to them first. Defaults to `None`.

    Raises:
        ValueError: If a code does not fit.
    """
    found = codes if zero_point is None else codes.astype(np.int64) + zero_point
    if not found.size:
        return
    low, high = int(found.min()), int(found.max())
    most = 1 if bits == 1 else 2 ** (bits - 1) - 1
    _require(
        -(2 ** (bits - 1)) <= low and high <= most,
        f"codes of {bits} bits",
        f"codes from {low} to {high}",
    )


def _expected(
    encoding: str,
    role: str,
    bits: int,
    shape: tuple[int, ...],
    scale: tuple[int, int],
) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
    """The dtypes and shapes that a part may have."""
    if role == "codes":
        return _CODE_DTYPES[encoding], [shape]
    if role == "zero_point":
        return ("int16",), [scale]
    if role == "codebook":
        return ("float32",), [(scale[0], 2**bits), (1, 2**bits)]
    return ("float32",), [scale]


def _scale_shape(
    parameters: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[int, int]:
    axis, size = parameters.get("axis"), parameters.get("group_size")
    valid = isinstance(axis, list) and _ascending_axes(axis, len(shape))
    _require(valid, f"ascending axes of an array of shape {shape}", axis)
    _require(
        size is None or (_is_integer(size) and size > 0),
        "a group size above 0",
        size,
    )
    channels, rest = canonical_shape(shape, tuple(axis or ()))
    return channels, group_count(rest, size)


def _ascending_axes(axis: list[Any], rank: int) -> bool:
    inside = all(_is_integer(item) and 0 <= item < rank for item in axis)
    return inside and axis == sorted(set(axis))


def _bits(encoding: str, bits: Any) -> int:
    most = _MOST_CODEBOOK_BITS if encoding == "codebook" else 16
    valid = _is_integer(bits) and 1 <= bits <= most
    _require(valid, f"bits from 1 to {most}", bits)
    return int(bits)


def _check_name(name: Any, bits: int) -> None:
    known = isinstance(name, str) and name in FIXED_CODEBOOKS
    _require(known, f"one of the codebooks {FIXED_CODEBOOKS}", name)
    fixed_codebook(name, bits)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(condition: bool, expected: str, received: Any) -> None:
    if not condition:
        raise ValueError(f"{received!r} instead of {expected}")

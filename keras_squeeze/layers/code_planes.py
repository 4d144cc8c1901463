"""Matrix products with packed codes, without a matrix of all the codes."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_squeeze.layers.stored_kernel import StoredKernel

#: By bits a stored code: what the planes of `_planes` are multiples of.
_UNITS = {1: 2.0**6, 2: 2.0**6, 4: 2.0**4}


def splits_by_units(stored: StoredKernel) -> bool:
    """Whether each plane of packed codes holds whole output units.

    Args:
        stored: `StoredKernel` of a kernel stored as `(units, inputs)`.

    Returns:
        Boolean; `False` where codes are not the levels themselves, too.
    """
    layout = stored.layout
    if layout.width == 8 or stored.has_codebook:
        return False
    if stored.part("zero_point") is not None:
        return False
    return bool(layout.stored_shape[0] % (8 // layout.width) == 0)


def product_with_planes(inputs: Any, stored: StoredKernel) -> Any:
    """Multiplies inputs with packed codes of which each plane is whole units.

    A plane is brought to the top of its bytes and taken as a multiple of the
    codes: there is no shift back, no sign to extend and nothing to join but
    the results, and only one plane at a time is held as floats.

    Args:
        inputs: float tensor of shape `(..., inputs)`.
        stored: `StoredKernel` for which `splits_by_units`.

    Returns:
        float tensor of shape `(..., units)`.
    """
    layout = stored.layout
    outputs = [
        ops.matmul(inputs, ops.transpose(_matrix(plane, layout, inputs.dtype)))
        for plane in _planes(stored.part("codes"), layout.width)
    ]
    joined = ops.concatenate(outputs, axis=-1)
    return joined * (1 / _UNITS[layout.width])


def _matrix(plane: Any, layout: Any, dtype: str) -> Any:
    return ops.cast(ops.reshape(plane, (-1, layout.stored_shape[1])), dtype)


def _planes(packed: Any, width: int) -> list[Any]:
    """The codes of each plane as int8, times the same power of two."""
    signed = ops.cast(packed, "int8")
    top = ops.convert_to_tensor(-(2 ** (8 - width)), "int8")
    planes = []
    for shift in range(8 - width, -1, -width):
        moved = signed
        if shift:
            moved = ops.left_shift(signed, ops.convert_to_tensor(shift, "int8"))
        plane = ops.bitwise_and(moved, top)
        if width == 1:
            # The set bit stands for -1, the other for +1.
            half = ops.convert_to_tensor(64, "int8")
            plane = ops.bitwise_or(plane, half)
        planes.append(plane)
    return planes

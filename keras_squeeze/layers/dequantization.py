"""Codes to floats in the graph, and when to do it."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
from keras import ops


def computed_after(inputs: Any) -> Any:
    """Keeps what is computed inside from running before the inputs exist.

    TensorFlow's executor starts every operation whose inputs are ready: it
    would expand the kernels of all layers at the start of the graph and hold
    them together in memory, more than the float model needs. Elsewhere, and
    eagerly, there is nothing to hold back.

    Args:
        inputs: The layer's input, a tensor or a nest of tensors.

    Returns:
        Context manager.
    """
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    if tf.executing_eagerly():
        return contextlib.nullcontext()
    flat = tf.nest.flatten(inputs, expand_composites=True)
    return tf.control_dependencies(
        [x for x in flat if isinstance(x, tf.Tensor)]
    )


def unpack(packed: Any, width: int, count: int) -> Any:
    """Codes of a packed variable; the planes of `quantizers.packing`.

    Args:
        packed: uint8 tensor of shape `(bytes,)`.
        width: Integer: 1, 2 or 4.
        count: Integer. Number of codes.

    Returns:
        int8 tensor of shape `(count,)`.
    """
    shifts = range(width, 8, width)
    planes = [ops.right_shift(packed, _uint8(shift)) for shift in shifts]
    fields = ops.concatenate([packed, *planes], axis=0)
    return fields_to_codes(fields, width)[:count]


def fields_to_codes(fields: Any, width: int) -> Any:
    """The signed code in the low bits of each byte.

    Args:
        fields: uint8 tensor of any shape.
        width: Integer: 1, 2 or 4. Number of low bits to read.

    Returns:
        int8 tensor of the same shape.
    """
    masked = ops.bitwise_and(fields, _uint8(2**width - 1))
    if width == 1:
        return 1 - 2 * ops.cast(masked, "int8")
    sign = 2 ** (width - 1)
    flipped = ops.bitwise_xor(masked, _uint8(sign))
    return ops.cast(flipped, "int8") - ops.convert_to_tensor(sign, "int8")


def _uint8(value: int) -> Any:
    return ops.convert_to_tensor(value, "uint8")


def expand_groups(scale: Any, group_size: int | None, count: int) -> Any:
    """Repeats scales along the last axis so that each value has its own.

    Args:
        scale: float tensor of shape `(..., groups)`.
        group_size: Integer, or `None` for one group.
        count: Integer. Number of values a channel.

    Returns:
        float tensor of shape `(..., count)`, or `(..., 1)` for one group.
    """
    if scale.shape[-1] == 1:
        return scale
    return ops.repeat(scale, group_size, axis=-1)[..., :count]


def working_dtype(dtype: str, has_codebook: bool) -> str:
    """The dtype in which a kernel of some dtype is computed.

    Codes and the scales of a uniform grid have 8 significant bits, so their
    product is rounded once in bfloat16; the entries of a codebook have more.
    The scale of a kernel may lie outside the range of float16.

    Args:
        dtype: String. The kernel's dtype.
        has_codebook: Boolean. Whether its codes are entries of a codebook.

    Returns:
        String.
    """
    wide = ("float16", "bfloat16") if has_codebook else ("float16",)
    return "float32" if dtype in wide else dtype


def scaled(levels: Any, scale: Any, working: str, dtype: str) -> Any:
    """Multiplies with scales of a shape that broadcasts.

    Args:
        levels: Tensor: codes, or what they stand for before scaling.
        scale: float32 tensor.
        working: String. The dtype to multiply in.
        dtype: String. The dtype of the result.

    Returns:
        float tensor.
    """
    product = ops.cast(levels, working) * ops.cast(scale, working)
    return ops.cast(product, dtype)

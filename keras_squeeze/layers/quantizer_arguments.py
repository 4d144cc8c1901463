"""The quantizer of a layer, and the layer's arguments that stand for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_squeeze import quantizers
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import Quantizer


def layer_quantizer(
    kernel_quantizer: Any,
    bits: int | None,
    granularity: str,
    group_size: int | None,
) -> Quantizer:
    """The quantizer behind a layer's arguments.

    Args:
        kernel_quantizer: String, config or `Quantizer`; an object brings its
            own bits, granularity and group size.
        bits: Integer from 1 to 8; `None` for the quantizer's own default.
        granularity: String.
        group_size: Integer or `None`.

    Returns:
        `Quantizer`.

    Raises:
        SqueezeError: If an argument is out of its range.
    """
    quantizer = quantizers.get(
        kernel_quantizer,
        bits=bits,
        granularity=granularity,
        group_size=group_size,
    )
    if quantizer.bits > 8:
        raise SqueezeError(
            "Expected `bits` from 1 to 8 for a layer's kernel; 16 is for "
            f"files. Received: bits={quantizer.bits}"
        )
    return quantizer


def quantizer_arguments(quantizer: Quantizer) -> dict[str, Any]:
    """A layer's arguments for a quantizer; undoes `layer_quantizer`.

    Args:
        quantizer: `Quantizer`.

    Returns:
        JSON-ready dictionary with the keys `kernel_quantizer`, `bits`,
        `granularity` and `group_size`.
    """
    config: Mapping[str, Any] = quantizer.get_config()
    shared = ("bits", "granularity", "group_size")
    own = {key: value for key, value in config.items() if key not in shared}
    identifier = own["id"] if list(own) == ["id"] else own
    return {
        "kernel_quantizer": identifier,
        **{key: config.get(key) for key in shared},
    }

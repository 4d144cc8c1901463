"""Quantizers: arrays of floats to integer codes and scales, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_squeeze.errors import UnknownIdentifierError
from keras_squeeze.quantizers.absmax import AbsMaxQuantizer
from keras_squeeze.quantizers.allocation import (
    Allocation,
    allocate,
    snr_db_of_quality,
)
from keras_squeeze.quantizers.gram_matrix import GramMatrix
from keras_squeeze.quantizers.layout import from_canonical, to_canonical
from keras_squeeze.quantizers.mean_squared_error import (
    MeanSquaredErrorQuantizer,
)
from keras_squeeze.quantizers.output_aware import (
    output_error,
    quantize_output_aware,
)
from keras_squeeze.quantizers.packing import (
    pack_codes,
    storage_width,
    unpack_codes,
)
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.quantizer import GRANULARITIES, Quantizer
from keras_squeeze.quantizers.rate_distortion import RateDistortionQuantizer
from keras_squeeze.quantizers.rate_distortion_size import estimate_bytes
from keras_squeeze.quantizers.trellis import TrellisQuantizer
from keras_squeeze.registry import Registry

__all__ = [
    "GRANULARITIES",
    "AbsMaxQuantizer",
    "Allocation",
    "GramMatrix",
    "MeanSquaredErrorQuantizer",
    "QuantizedTensor",
    "Quantizer",
    "RateDistortionQuantizer",
    "TrellisQuantizer",
    "allocate",
    "estimate_bytes",
    "from_canonical",
    "get",
    "output_error",
    "pack_codes",
    "quantize_output_aware",
    "register",
    "registry",
    "snr_db_of_quality",
    "storage_width",
    "to_canonical",
    "unpack_codes",
]

registry: Registry[Quantizer] = Registry("quantizer")


def register(quantizer: type[Quantizer]) -> type[Quantizer]:
    """Makes a quantizer known under its `id`; usable as a decorator.

    Args:
        quantizer: Subclass of `Quantizer` with an `id` of its own.

    Returns:
        The class, unchanged.
    """
    registry.register(quantizer.id, quantizer)
    return quantizer


register(AbsMaxQuantizer)
register(MeanSquaredErrorQuantizer)
register(RateDistortionQuantizer)
register(TrellisQuantizer)


def get(
    identifier: str | Mapping[str, Any] | Quantizer, **defaults: Any
) -> Quantizer:
    """Looks a quantizer up.

    Args:
        identifier: String, the `id` of a quantizer; or a mapping with the key
            `"id"` and arguments, as `get_config` returns it; or a `Quantizer`,
            which is returned as it is.
        **defaults: Arguments for the quantizer where the identifier does not
            give them, as `bits=4`; `None` is the quantizer's own default.

    Returns:
        `Quantizer`.

    Raises:
        UnknownIdentifierError: If there is no such quantizer.

    Example:
    >>> get("absmax", bits=4)
    AbsMaxQuantizer(bits=4, granularity='per_channel', group_size=None)
    """
    if isinstance(identifier, Quantizer):
        return identifier
    defaults = {k: v for k, v in defaults.items() if v is not None}
    if isinstance(identifier, str):
        return registry.create(identifier, defaults)
    if isinstance(identifier, Mapping) and isinstance(
        identifier.get("id"), str
    ):
        arguments = {k: v for k, v in identifier.items() if k != "id"}
        return registry.create(identifier["id"], {**defaults, **arguments})
    raise UnknownIdentifierError(
        "Expected a quantizer, its name or its config with the key 'id'; the "
        f"names are {sorted(registry)}. Received: {identifier!r}"
    )

"""Quantizers: arrays of floats to integer codes and scales, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_squeeze.errors import UnknownIdentifierError
from keras_squeeze.quantizers.absmax import AbsMaxQuantizer
from keras_squeeze.quantizers.affine import AffineQuantizer
from keras_squeeze.quantizers.allocation import (
    Allocation,
    allocate,
    snr_db_of_quality,
)
from keras_squeeze.quantizers.binary import BinaryQuantizer
from keras_squeeze.quantizers.entropy import EntropyQuantizer
from keras_squeeze.quantizers.entropy_constrained import (
    EntropyConstrainedQuantizer,
)
from keras_squeeze.quantizers.fixed_codebooks import fixed_codebook
from keras_squeeze.quantizers.float8 import (
    Float8E4M3Quantizer,
    Float8E5M2Quantizer,
)
from keras_squeeze.quantizers.gram_matrix import GramMatrix
from keras_squeeze.quantizers.kernel_matrix import KernelMatrix
from keras_squeeze.quantizers.kmeans import KMeansQuantizer
from keras_squeeze.quantizers.layout import from_canonical, to_canonical
from keras_squeeze.quantizers.mean_squared_error import (
    MeanSquaredErrorQuantizer,
)
from keras_squeeze.quantizers.mixed_bits import choose_bits
from keras_squeeze.quantizers.nearest_level import nearest_codes
from keras_squeeze.quantizers.normal_float4 import NormalFloat4Quantizer
from keras_squeeze.quantizers.output_aware import (
    output_error,
    quantize_output_aware,
)
from keras_squeeze.quantizers.packing import (
    pack_codes,
    storage_width,
    unpack_codes,
)
from keras_squeeze.quantizers.percentile import PercentileQuantizer
from keras_squeeze.quantizers.power_of_two import PowerOfTwoQuantizer
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.quantizer import GRANULARITIES, Quantizer
from keras_squeeze.quantizers.rate_distortion import RateDistortionQuantizer
from keras_squeeze.quantizers.rate_distortion_size import estimate_bytes
from keras_squeeze.quantizers.reconstruction import (
    quantize_reconstructing,
)
from keras_squeeze.quantizers.ternary import TernaryQuantizer
from keras_squeeze.quantizers.trellis import TrellisQuantizer
from keras_squeeze.registry import Registry

__all__ = [
    "GRANULARITIES",
    "AbsMaxQuantizer",
    "AffineQuantizer",
    "Allocation",
    "BinaryQuantizer",
    "EntropyConstrainedQuantizer",
    "EntropyQuantizer",
    "Float8E4M3Quantizer",
    "Float8E5M2Quantizer",
    "GramMatrix",
    "KMeansQuantizer",
    "KernelMatrix",
    "MeanSquaredErrorQuantizer",
    "NormalFloat4Quantizer",
    "PercentileQuantizer",
    "PowerOfTwoQuantizer",
    "QuantizedTensor",
    "Quantizer",
    "RateDistortionQuantizer",
    "TernaryQuantizer",
    "TrellisQuantizer",
    "allocate",
    "choose_bits",
    "estimate_bytes",
    "fixed_codebook",
    "from_canonical",
    "get",
    "nearest_codes",
    "output_error",
    "pack_codes",
    "quantize_output_aware",
    "quantize_reconstructing",
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
register(PercentileQuantizer)
register(EntropyQuantizer)
register(AffineQuantizer)
register(TernaryQuantizer)
register(BinaryQuantizer)
register(PowerOfTwoQuantizer)
register(Float8E4M3Quantizer)
register(Float8E5M2Quantizer)
register(NormalFloat4Quantizer)
register(RateDistortionQuantizer)
register(TrellisQuantizer)
register(KMeansQuantizer)
register(EntropyConstrainedQuantizer)


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

"""A variable on its way into a file, and how its parts make it again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_squeeze.artifact.encodings import check_codes, name_of_codebook
from keras_squeeze.codecs.dtypes import (
    DTYPE_NAMES,
    dtype_from_name,
    is_supported,
)
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import QuantizedTensor, pack_codes, unpack_codes
from keras_squeeze.quantizers.fixed_codebooks import fixed_codebook
from keras_squeeze.quantizers.layout import from_canonical, to_canonical


@dataclasses.dataclass(frozen=True)
class TensorInput:
    """A variable on its way into a file; picklable, for any executor.

    Args:
        name: String. The variable's path.
        shape: Tuple of integers. The variable's shape.
        dtype: String. The variable's dtype.
        arrays: Mapping of role to array, as `TensorRecord.encoding` says.
        encoding: String, one of `encodings.ENCODINGS`.
        parameters: Mapping. JSON-ready, what the encoding needs to decode.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    arrays: Mapping[str, np.ndarray]
    encoding: str = "values"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_values(cls, name: str, values: np.ndarray) -> TensorInput:
        """A variable stored as it is; of a dtype that codecs take."""
        if not is_supported(values.dtype):
            raise SqueezeError(
                f"Expected the tensor {name!r} to have one of the dtypes "
                f"{DTYPE_NAMES}. Received: dtype={values.dtype}"
            )
        return cls(name, values.shape, values.dtype.name, {"values": values})

    @classmethod
    def from_packed(
        cls, name: str, packed: np.ndarray, width: int, count: int
    ) -> TensorInput:
        """A `uint8` variable that holds `count` codes of `width` bits."""
        codes = unpack_codes(packed, width, count)
        parameters = {"width": width}
        return cls(
            name, packed.shape, "uint8", {"codes": codes}, "packed", parameters
        )

    @classmethod
    def from_quantized(
        cls, name: str, dtype: str, tensor: QuantizedTensor
    ) -> TensorInput:
        """A floating-point variable stored as codes and scale.

        A zero point is stored beside codes that are relative to it, so that
        zero is 0 to a coder in every channel. A codebook is stored, or named
        if it is a fixed one.
        """
        parameters: dict[str, Any] = {
            "axis": list(tensor.axis),
            "bits": tensor.bits,
            "group_size": tensor.group_size,
        }
        if tensor.trellis is not None:
            parameters["trellis"] = dataclasses.asdict(tensor.trellis)
        arrays = {"codes": tensor.codes, "scale": tensor.scale}
        encoding, shape = "quantized", tensor.codes.shape
        if tensor.zero_point is not None:
            encoding = "affine"
            arrays["codes"] = _relative_codes(tensor, tensor.zero_point)
            arrays["zero_point"] = tensor.zero_point
        elif tensor.codebook is not None:
            encoding = "codebook"
            fixed = name_of_codebook(tensor.codebook, tensor.bits)
            if fixed is None:
                arrays["codebook"] = tensor.codebook
            else:
                parameters["codebook"] = fixed
        return cls(name, shape, dtype, arrays, encoding, parameters)

    @property
    def trellis(self) -> Trellis | None:
        """The trellis that the codes follow; coders save bits by it."""
        found = self.parameters.get("trellis")
        return Trellis(**found) if found else None

    def decode(self) -> np.ndarray:
        """The array that a reader will get."""
        return assemble(
            self.encoding, self.arrays, self.parameters, self.shape, self.dtype
        )


def assemble(
    encoding: str,
    arrays: Mapping[str, np.ndarray],
    parameters: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: str,
) -> np.ndarray:
    """Makes the variable's array from its decoded parts.

    Args:
        encoding: String, one of `encodings.ENCODINGS`.
        arrays: Mapping of role to array.
        parameters: Mapping. The encoding's parameters.
        shape: Tuple of integers. The variable's shape.
        dtype: String. The variable's dtype.

    Returns:
        Array of that shape and dtype.

    Raises:
        ValueError: If the parts do not make such an array.
    """
    if encoding == "values":
        array = arrays["values"]
    elif encoding == "packed":
        array = pack_codes(arrays["codes"].ravel(), int(parameters["width"]))
    else:
        array = _dequantize(encoding, arrays, parameters)
    array = array.astype(dtype_from_name(dtype), copy=False)
    if array.shape != tuple(shape) or array.size != math.prod(shape):
        raise ValueError(f"an array of shape {array.shape}")
    return array


def _dequantize(
    encoding: str,
    arrays: Mapping[str, np.ndarray],
    parameters: Mapping[str, Any],
) -> np.ndarray:
    bits, name = int(parameters["bits"]), parameters.get("codebook")
    codebook = arrays.get("codebook")
    if encoding == "codebook":
        check_codes(arrays["codes"], bits)
        if name is not None:
            codebook = fixed_codebook(name, bits)[None]
    tensor = QuantizedTensor(
        codes=arrays["codes"],
        scale=arrays["scale"],
        bits=bits,
        axis=tuple(int(axis) for axis in parameters["axis"]),
        group_size=parameters["group_size"],
        codebook=codebook,
    )
    if encoding == "affine":
        shift = _shift_of_codes(tensor, arrays["zero_point"])
        check_codes(tensor.codes, bits, shift)
    with np.errstate(over="ignore", invalid="ignore"):
        values: np.ndarray = tensor.dequantize()
    return values


def _relative_codes(
    tensor: QuantizedTensor, zero_point: np.ndarray
) -> np.ndarray:
    """Codes less their zero point, in the narrowest integers."""
    shift = _shift_of_codes(tensor, zero_point)
    levels: np.ndarray = tensor.codes.astype(np.int32) - shift
    low, high = int(levels.min(initial=0)), int(levels.max(initial=0))
    for dtype in (np.int8, np.int16):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            levels = levels.astype(dtype)
            break
    return levels


def _shift_of_codes(
    tensor: QuantizedTensor, zero_point: np.ndarray
) -> np.ndarray:
    """The zero point of every code, in the shape of the codes."""
    channels, rest = to_canonical(tensor.codes, tensor.axis).shape
    size = tensor.group_size or max(rest, 1)
    spread = np.repeat(zero_point, min(size, max(rest, 1)), axis=1)[:, :rest]
    spread = spread.astype(np.int32).reshape(channels, rest)
    return from_canonical(spread, tensor.shape, tensor.axis)

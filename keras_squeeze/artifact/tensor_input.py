"""A variable on its way into a file, and how its parts make it again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_squeeze.codecs.dtypes import dtype_from_name
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.quantizers import QuantizedTensor, pack_codes, unpack_codes

#: The parts of each encoding, in the order in which they are stored.
ROLES = {
    "values": ("values",),
    "packed": ("codes",),
    "quantized": ("codes", "scale"),
}


@dataclasses.dataclass(frozen=True)
class TensorInput:
    """A variable on its way into a file; picklable, for any executor.

    Args:
        name: String. The variable's path.
        shape: Tuple of integers. The variable's shape.
        dtype: String. The variable's dtype.
        arrays: Mapping of role to array, as `TensorRecord.encoding` says.
        encoding: String. `"values"`, `"packed"` or `"quantized"`.
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
        """A variable stored as it is."""
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
        """A floating-point variable stored as codes and scale."""
        parameters = {
            "axis": list(tensor.axis),
            "bits": tensor.bits,
            "group_size": tensor.group_size,
        }
        if tensor.trellis is not None:
            parameters["trellis"] = dataclasses.asdict(tensor.trellis)
        arrays = {"codes": tensor.codes, "scale": tensor.scale}
        shape = tensor.codes.shape
        return cls(name, shape, dtype, arrays, "quantized", parameters)

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
        encoding: String. `"values"`, `"packed"` or `"quantized"`.
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
        array = _dequantize(arrays, parameters)
    array = array.astype(dtype_from_name(dtype), copy=False)
    if array.shape != tuple(shape) or array.size != math.prod(shape):
        raise ValueError(f"an array of shape {array.shape}")
    return array


def _dequantize(
    arrays: Mapping[str, np.ndarray], parameters: Mapping[str, Any]
) -> np.ndarray:
    return QuantizedTensor(
        codes=arrays["codes"],
        scale=arrays["scale"],
        bits=int(parameters["bits"]),
        axis=tuple(int(axis) for axis in parameters["axis"]),
        group_size=parameters["group_size"],
    ).dequantize()

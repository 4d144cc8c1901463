"""The variables of one quantized kernel, and the tensors made of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_squeeze.layers.codebook_lookup import look_up, look_up_rows
from keras_squeeze.layers.dequantization import (
    expand_groups,
    scaled,
    unpack,
    working_dtype,
)
from keras_squeeze.layers.kernel_layout import KernelLayout
from keras_squeeze.quantizers import QuantizedTensor


@dataclasses.dataclass(frozen=True)
class Packing:
    """How the codes of a kernel lie in bytes.

    Args:
        variable: The `keras.Variable` of packed codes, one-dimensional uint8.
        width: Integer. Bits a code: 1, 2 or 4.
        count: Integer. Number of codes.
    """

    variable: Any
    width: int
    count: int


@dataclasses.dataclass(frozen=True)
class StoredKernel:
    """A kernel as codes, scales, and zero points or a codebook.

    Args:
        layout: `KernelLayout`.
        variables: Mapping of variable name to `keras.Variable`, those of
            `layout.variables()`.
    """

    layout: KernelLayout
    variables: Mapping[str, Any]

    def part(self, part: str) -> Any | None:
        """The variable of `"codes"`, `"scale"`, ...; `None` without one."""
        return self.variables.get(self.layout.variable_name(part))

    @property
    def packing(self) -> Packing | None:
        """How the codes are packed; `None` if each has a byte of its own."""
        layout = self.layout
        if layout.width == 8:
            return None
        return Packing(self.part("codes"), layout.width, layout.count)

    @property
    def has_codebook(self) -> bool:
        """Whether codes are entries of a codebook."""
        return self.codebook is not None

    @property
    def codebook(self) -> Any | None:
        """The codebook, rows of values; a constant or a variable."""
        fixed = self.layout.codebook
        return self.part("codebook") if fixed is None else fixed

    def codes(self) -> Any:
        """The codes as an int8 tensor, in storage order."""
        layout = self.layout
        codes = ops.convert_to_tensor(self.part("codes"))
        if layout.width == 8:
            return codes
        flat = unpack(codes, layout.width, layout.count)
        return ops.reshape(flat, layout.stored_shape)

    def levels(self, dtype: str) -> Any:
        """What the scale multiplies, in storage order.

        Args:
            dtype: String. The dtype of the result.

        Returns:
            Tensor: codes, codes less their zero points, or entries of the
            codebook.
        """
        codebook = self.codebook
        if codebook is not None:
            return ops.cast(self._entries(codebook), dtype)
        codes = ops.cast(self.codes(), dtype)
        zero_point = self.part("zero_point")
        if zero_point is None:
            return codes
        return codes - ops.cast(self._per_value(zero_point), dtype)

    def _entries(self, codebook: Any) -> Any:
        layout = self.layout
        bits = layout.quantizer.bits
        if codebook.shape[0] == 1:
            fields = ops.convert_to_tensor(self.part("codes"))
            flat = ops.reshape(fields, (-1,))
            values = look_up(flat, codebook[0], bits, layout.width)
            return ops.reshape(values[: layout.count], layout.stored_shape)
        rows = np.arange(codebook.shape[0], dtype="int32")[:, None]
        return look_up_rows(
            self.codes(), codebook, bits, self._in_storage_order(rows)
        )

    def scale(self) -> Any:
        """The scale in a shape that broadcasts against the stored codes."""
        return self._per_value(self.part("scale"))

    def _per_value(self, groups: Any) -> Any:
        layout = self.layout
        count = math.prod(layout.shape[i] for i in layout.rest)
        groups = ops.convert_to_tensor(groups)
        values = expand_groups(groups, layout.quantizer.group_size, count)
        return self._in_storage_order(values)

    def _in_storage_order(self, canonical: Any) -> Any:
        """From `(channels, values or 1)` to the axes of the stored codes."""
        layout = self.layout
        shape, axis, rest = layout.shape, layout.axis, layout.rest
        single = canonical.shape[-1] == 1
        kept = [i for i in layout.order if i in axis]
        if single and kept == list(axis):
            # No transposition, of which a kernel in training has several.
            sizes = [shape[i] if i in axis else 1 for i in layout.order]
            return ops.reshape(canonical, sizes)
        sizes = [1 if single else shape[i] for i in rest]
        values = ops.reshape(canonical, [shape[i] for i in axis] + sizes)
        order = (*axis, *rest)
        return ops.transpose(values, [order.index(i) for i in layout.order])

    def dequantized(self, dtype: str) -> Any:
        """The kernel computed from its codes.

        Args:
            dtype: String. The dtype of the result.

        Returns:
            float tensor of the kernel's shape.
        """
        working = working_dtype(dtype, self.has_codebook)
        stored = scaled(self.levels(working), self.scale(), working, dtype)
        order = self.layout.kernel_order
        return stored if order is None else ops.transpose(stored, order)

    def tensor(self) -> QuantizedTensor:
        """What is stored, as a `QuantizedTensor` of NumPy arrays.

        Returns:
            `QuantizedTensor` whose codes have the kernel's shape.
        """
        values = {
            name: np.asarray(ops.convert_to_numpy(variable))
            for name, variable in self.variables.items()
        }
        return self.layout.tensor(values)

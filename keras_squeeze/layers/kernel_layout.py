"""How a quantized kernel lies in a layer's variables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze import quantizers
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import QuantizedTensor, Quantizer
from keras_squeeze.quantizers.fixed_codebooks import fixed_codebook
from keras_squeeze.quantizers.layout import canonical_shape, group_count
from keras_squeeze.quantizers.packing import packed_size


@dataclasses.dataclass(frozen=True)
class KernelLayout:
    """Shapes and order of what one kernel is stored as.

    Args:
        name: String. The kernel's name, as `"kernel"` or `"embeddings"`.
        shape: Tuple of integers. The kernel's shape.
        channel_axis: Ascending tuple of the axes that index its channels.
        channels_first: Boolean. Whether the codes are stored with those axes
            first.
        quantizer: `Quantizer`.
    """

    name: str
    shape: tuple[int, ...]
    channel_axis: tuple[int, ...]
    channels_first: bool
    quantizer: Quantizer

    @property
    def axis(self) -> tuple[int, ...]:
        """The axes that index the scales, `()` for one scale."""
        per_tensor = self.quantizer.granularity == "per_tensor"
        return () if per_tensor else self.channel_axis

    @property
    def rest(self) -> tuple[int, ...]:
        """The axes along which values share a scale."""
        return tuple(i for i in range(len(self.shape)) if i not in self.axis)

    @property
    def count(self) -> int:
        """Number of codes."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Bits a stored code: 1, 2, 4 or 8."""
        return quantizers.storage_width(self.quantizer.bits)

    @property
    def order(self) -> tuple[int, ...]:
        """The kernel's axes in the order in which codes are stored."""
        every = range(len(self.shape))
        if not self.channels_first:
            return tuple(every)
        kept = self.channel_axis
        return (*kept, *(i for i in every if i not in kept))

    @property
    def kernel_order(self) -> tuple[int, ...] | None:
        """The stored axes in the kernel's order; `None` if they are."""
        order = tuple(int(i) for i in np.argsort(self.order))
        return None if order == self.order == tuple(sorted(order)) else order

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the codes in storage order."""
        return tuple(self.shape[i] for i in self.order)

    @property
    def codebook(self) -> NDArray[np.float32] | None:
        """The quantizer's fixed codebook, one row; `None` if it has none."""
        name = self.quantizer.codebook_name
        if name is None:
            return None
        return fixed_codebook(name, self.quantizer.bits)[None, :]

    def variable_name(self, part: str) -> str:
        """Name of the variable that holds `"codes"`, `"scale"`, ..."""
        return f"{self.name}_{part}"

    def variables(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of the kernel's variables by name, codes first.

        Returns:
            Dictionary of name to pair of shape and dtype.
        """
        codes: tuple[tuple[int, ...], str] = (self.stored_shape, "int8")
        if self.width < 8:
            codes = ((packed_size(self.count, self.width),), "uint8")
        channels, rest = canonical_shape(self.shape, self.axis)
        scales = (channels, group_count(rest, self.quantizer.group_size))
        parts = {"codes": codes, "scale": (scales, "float32")}
        if self.quantizer.affine:
            parts["zero_point"] = (scales, "int16")
        rows = self.quantizer.codebook_rows(channels)
        if rows:
            parts["codebook"] = ((rows, 2**self.quantizer.bits), "float32")
        return {self.variable_name(part): spec for part, spec in parts.items()}

    def values(self, tensor: QuantizedTensor | None) -> dict[str, Any]:
        """The values of the variables for a quantized kernel.

        Args:
            tensor: `QuantizedTensor` made by a quantizer like this one, or
                `None` for a kernel of zeros.

        Returns:
            Dictionary of variable name to array.

        Raises:
            SqueezeError: If shape, bits, axis, groups, zero points or
                codebook do not fit.
        """
        specs = self.variables()
        if tensor is None:
            return {name: np.zeros(*spec) for name, spec in specs.items()}
        self._check_fits(tensor)
        codes = np.ascontiguousarray(tensor.codes.transpose(self.order))
        if self.width < 8:
            codes = quantizers.pack_codes(codes, self.width)
        parts = {
            "codes": codes,
            "scale": tensor.scale,
            "zero_point": tensor.zero_point,
            "codebook": tensor.codebook,
        }
        named = {self.variable_name(p): value for p, value in parts.items()}
        return {name: named[name] for name in specs}

    def _check_fits(self, tensor: QuantizedTensor) -> None:
        self.check_shape(tensor.shape)
        found = (tensor.bits, tensor.axis, tensor.group_size)
        quantizer = self.quantizer
        expected = (quantizer.bits, self.axis, quantizer.group_size)
        if found != expected:
            raise SqueezeError(
                "Expected a quantized kernel with (bits, axis, group_size) "
                f"{expected}. Received: {found}"
            )
        if quantizer.affine != (tensor.zero_point is not None):
            raise SqueezeError(
                f"Expected a quantized kernel {_with(quantizer.affine)} zero "
                f"points for {quantizer}. "
                f"Received: one {_with(not quantizer.affine)} them"
            )
        self._check_codebook(tensor.codebook)

    def _check_codebook(self, found: NDArray[np.float32] | None) -> None:
        fixed = self.codebook
        name = self.variable_name("codebook")
        expected = self.variables().get(name, (None,))[0]
        expected = expected if fixed is None else fixed.shape
        received = None if found is None else found.shape
        if expected != received:
            raise SqueezeError(
                f"Expected a codebook of shape {expected} for "
                f"{self.quantizer}. Received: {received}"
            )
        if fixed is not None and not np.array_equal(fixed, np.asarray(found)):
            raise SqueezeError(
                f"Expected the codebook {self.quantizer.codebook_name!r}. "
                f"Received: another of shape {fixed.shape}"
            )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises `SqueezeError` unless a kernel has the shape."""
        if tuple(shape) != self.shape:
            raise SqueezeError(
                f"Expected a kernel of shape {self.shape}. "
                f"Received: shape {tuple(shape)}"
            )

    def tensor(self, values: Mapping[str, Any]) -> QuantizedTensor:
        """Undoes `values`.

        Args:
            values: Mapping of variable name to array.

        Returns:
            `QuantizedTensor` whose codes have the kernel's shape.
        """
        codes = values[self.variable_name("codes")]
        if self.width < 8:
            codes = quantizers.unpack_codes(codes, self.width, self.count)
            codes = codes.reshape(self.stored_shape)
        learned = values.get(self.variable_name("codebook"))
        return QuantizedTensor(
            codes=codes.transpose(self.kernel_order or self.order),
            scale=values[self.variable_name("scale")],
            bits=self.quantizer.bits,
            axis=self.axis,
            group_size=self.quantizer.group_size,
            zero_point=values.get(self.variable_name("zero_point")),
            codebook=self.codebook if learned is None else learned,
        )


def _with(there: bool) -> str:
    return "with" if there else "without"


def kernel_layout(
    target: Any, layer: Any, name: str, shape: Any, quantizer: Quantizer
) -> KernelLayout:
    """The layout of a layer's kernel in its quantized class.

    Args:
        target: A subclass of `QuantizedKernel`.
        layer: The layer: of that class, or one that is to become it.
        name: String. The kernel's name.
        shape: The kernel's shape.
        quantizer: `Quantizer`.

    Returns:
        `KernelLayout`.
    """
    plain = tuple(int(dimension) for dimension in shape)
    return KernelLayout(
        name=name,
        shape=plain,
        channel_axis=target.channel_axis(layer, plain, name),
        channels_first=target.channels_first,
        quantizer=quantizer,
    )

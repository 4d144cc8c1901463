"""Kernels that are quantized when a file asks for them, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keras_squeeze.quantizers import QuantizedTensor
from keras_squeeze.surgery.kernel_quantization import (
    choose_quantizer,
    encode_kernel,
)
from keras_squeeze.surgery.layer_tree import Filters, find_kernels


class LazyKernels(Mapping[int, QuantizedTensor]):
    """The codes of a model's kernels by the `id` of their variable.

    They are made anew at each look-up, so that memory never holds the codes
    of more than one kernel.

    Args:
        model: A built `keras.Model`.
        bits: Optional integer. Width of a code.
        quantizer: Optional identifier or `Quantizer`.
        filters: Optional regex on the kernel's path or callable
            `layer -> bool`. Defaults to all kernels.

    Raises:
        NoKernelMatchedError: If `filters` leaves no kernel.
    """

    def __init__(
        self,
        model: Any,
        bits: int | None = None,
        quantizer: Any = None,
        filters: Filters = None,
    ) -> None:
        self._quantizer = choose_quantizer(quantizer, bits, None, None)
        self._kernels = {
            id(kernel.variable): kernel
            for kernel in find_kernels(model, filters)
        }

    def __getitem__(self, variable_id: int) -> QuantizedTensor:
        return encode_kernel(self._kernels[variable_id], self._quantizer)

    def __contains__(self, variable_id: object) -> bool:
        return variable_id in self._kernels

    def __iter__(self) -> Iterator[int]:
        return iter(self._kernels)

    def __len__(self) -> int:
        return len(self._kernels)

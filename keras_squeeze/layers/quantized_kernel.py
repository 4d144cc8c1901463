"""The mixin that lets a Keras layer hold its kernel as integer codes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.dequantization import (
    computed_after,
    expand_groups,
    scaled,
    unpack,
)
from keras_squeeze.layers.kernel_layout import kernel_layout
from keras_squeeze.layers.quantizer_arguments import (
    layer_quantizer,
    quantizer_arguments,
)
from keras_squeeze.quantizers import QuantizedTensor


@dataclasses.dataclass(frozen=True)
class Packing:
    """How the codes of a layer lie in bytes.

    Args:
        variable: The `keras.Variable` of packed codes, one-dimensional uint8.
        width: Integer. Bits a code: 1, 2 or 4.
        count: Integer. Number of codes.
    """

    variable: Any
    width: int
    count: int


class QuantizedKernel(keras.layers.Layer):
    """Mixin: a Keras layer whose kernel is codes times a scale.

    Stands before a Keras layer in the bases. That layer's `build` asks for a
    kernel; two frozen variables are made instead, `<kernel>_codes` and
    `<kernel>_scale`, and the kernel is computed from them where the layer
    reads it. Codes are int8, or bytes that hold several when they have at
    most 4 bits. Biases stay as they are and can be trained.

    A new layer's kernel is zero: kernels come from `keras_squeeze.quantize`,
    from a file, or by `assign_kernel`.

    Args:
        *args: What the Keras layer takes.
        kernel_quantizer: String, config or `Quantizer`. Defaults to
            `"absmax"`.
        bits: Integer from 1 to 8. Defaults to `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        **kwargs: What the Keras layer takes.

    Raises:
        SqueezeError: If an argument is out of its range.
    """

    kernel_name: ClassVar[str] = "kernel"
    # Channels first in storage: XLA multiplies (out, in) codes many times
    # faster than (in, out) when the batch is small.
    channels_first: ClassVar[bool] = False

    def __init__(
        self,
        *args: Any,
        kernel_quantizer: Any = "absmax",
        bits: int = 8,
        granularity: str = "per_channel",
        group_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        quantizer = layer_quantizer(
            kernel_quantizer, bits, granularity, group_size
        )
        super().__init__(*args, **kwargs)
        self.kernel_quantizer = quantizer
        if self.quantization_mode is not None:
            raise SqueezeError(
                f"Expected a floating-point dtype policy for {self.name!r}: "
                "its kernel is quantized already. Received: "
                f"dtype={self.dtype_policy.name!r}"
            )

    def channel_axis(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The axes of the kernel that a channel's scale belongs to.

        Args:
            shape: Tuple of integers. The kernel's shape.

        Returns:
            Ascending tuple of axes.
        """
        return (len(shape) - 1,)

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """Adds a variable; for the kernel, its codes and scale instead."""
        if kwargs.get("name") != self.kernel_name:
            return super().add_weight(*args, **kwargs)
        self.layout = kernel_layout(
            type(self),
            self,
            args[0] if args else kwargs["shape"],
            self.kernel_quantizer,
        )
        for name, (shape, dtype) in self.layout.variables().items():
            variable = super().add_weight(
                shape=shape,
                dtype=dtype,
                initializer="zeros",
                trainable=False,
                autocast=False,
                name=name,
            )
            setattr(self, name, variable)
        return None

    @property
    def codes_variable(self) -> Any:
        """The variable that holds the codes."""
        return getattr(self, f"{self.kernel_name}_codes")

    @property
    def scale_variable(self) -> Any:
        """The variable that holds the scale."""
        return getattr(self, f"{self.kernel_name}_scale")

    @property
    def packing(self) -> Packing | None:
        """How the codes are packed; `None` if each has a byte of its own."""
        layout = self.layout
        if layout.width == 8:
            return None
        return Packing(self.codes_variable, layout.width, layout.count)

    @property
    def kernel(self) -> Any:
        """The kernel computed from its codes, in the layer's compute dtype."""
        self._check_built()
        codes, scale = self.stored_codes(), self._stored_scale()
        stored = scaled(codes, scale, self.compute_dtype)
        order = self.layout.kernel_order
        return stored if order is None else ops.transpose(stored, order)

    @kernel.setter
    def kernel(self, value: Any) -> None:
        # `build` of some Keras layers assigns what `add_weight` returned.
        if value is not None:
            raise SqueezeError(
                f"The kernel of {self.name!r} is quantized: use "
                "`assign_kernel(value)`. Received: an assignment to `kernel`"
            )

    def _check_built(self) -> None:
        if not self.built:
            raise AttributeError(
                f"You must build the layer {self.name!r} before accessing "
                f"`{self.kernel_name}`."
            )

    def stored_codes(self) -> Any:
        """The codes as an int8 tensor, in storage order."""
        layout = self.layout
        codes = ops.convert_to_tensor(self.codes_variable)
        if layout.width == 8:
            return codes
        flat = unpack(codes, layout.width, layout.count)
        return ops.reshape(flat, layout.stored_shape)

    def _stored_scale(self) -> Any:
        """The scale in a shape that broadcasts against the stored codes."""
        layout = self.layout
        shape, axis, rest = layout.shape, layout.axis, layout.rest
        count = math.prod(shape[i] for i in rest)
        scale = ops.convert_to_tensor(self.scale_variable)
        scale = expand_groups(scale, layout.quantizer.group_size, count)
        single = scale.shape[-1] == 1
        sizes = [1 if single else shape[i] for i in rest]
        scale = ops.reshape(scale, [shape[i] for i in axis] + sizes)
        canonical = (*axis, *rest)
        return ops.transpose(scale, [canonical.index(i) for i in layout.order])

    def call(self, inputs: Any, training: Any = None) -> Any:
        """What the Keras layer computes, with the dequantized kernel."""
        with computed_after(inputs):
            return super().call(inputs)

    def assign_kernel(self, value: Any, name: str = "") -> QuantizedTensor:
        """Quantizes a kernel with the layer's quantizer and stores it.

        Args:
            value: Array of the kernel's shape.
            name: String. The layer's path, for the message of an error.

        Returns:
            The `QuantizedTensor` that was stored.

        Raises:
            NonFiniteError: If a value is NaN or infinite.
            SqueezeError: If the shape does not fit.
        """
        self._check_built()
        array = np.asarray(ops.convert_to_numpy(value))
        self.layout.check_shape(array.shape)
        tensor = self.kernel_quantizer.encode(
            array, self.layout.channel_axis, name or self.name
        )
        self.assign_quantized(tensor)
        return tensor

    def assign_quantized(self, tensor: QuantizedTensor) -> None:
        """Stores a kernel that is quantized already.

        Args:
            tensor: `QuantizedTensor` made by a quantizer like the layer's.

        Raises:
            SqueezeError: If shape, bits, axis or groups do not fit.
        """
        self._check_built()
        for name, value in self.layout.values(tensor).items():
            getattr(self, name).assign(value)

    def quantized_kernel(self) -> QuantizedTensor:
        """Codes and scale as they are stored, as a `QuantizedTensor`.

        Returns:
            `QuantizedTensor` whose codes have the kernel's shape.
        """
        self._check_built()
        codes = ops.convert_to_numpy(self.codes_variable)
        scale = ops.convert_to_numpy(self.scale_variable)
        return self.layout.tensor(np.asarray(codes), np.asarray(scale))

    def enable_lora(self, *args: Any, **kwargs: Any) -> None:
        """Not for a quantized kernel: it has no float kernel to add to."""
        raise SqueezeError(
            f"LoRA needs a floating-point kernel; enable it before quantizing. "
            f"Received: the quantized layer {self.name!r}"
        )

    def quantize(self, mode: Any = None, *args: Any, **kwargs: Any) -> None:
        """Not for a quantized kernel: it is quantized already."""
        raise SqueezeError(
            f"The kernel of {self.name!r} is quantized by keras_squeeze "
            "already; leave the layer out with `filters`. Received: "
            f"quantize(mode={mode!r})"
        )

    def save_own_variables(self, store: Any) -> None:
        """Saves all variables in order; there is no `_kernel` to look for."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        """Loads all variables in order."""
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self) -> dict[str, Any]:
        """The Keras layer's config and the quantizer's.

        Returns:
            JSON-ready dictionary.
        """
        return {
            **super().get_config(),
            **quantizer_arguments(self.kernel_quantizer),
        }

"""The mixin that lets a Keras layer hold its kernel as integer codes."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.dequantization import computed_after
from keras_squeeze.layers.held_kernels import held_kernel
from keras_squeeze.layers.kernel_layout import KernelLayout, kernel_layout
from keras_squeeze.layers.quantizer_arguments import (
    layer_quantizer,
    quantizer_arguments,
)
from keras_squeeze.layers.stored_kernel import Packing, StoredKernel
from keras_squeeze.quantizers import QuantizedTensor

__all__ = ["Packing", "QuantizedKernel"]


class QuantizedKernel(keras.layers.Layer):
    """Mixin: a Keras layer whose kernels are codes times scales.

    Stands before a Keras layer in the bases. That layer's `build` asks for
    kernels; frozen variables are made instead of each, `<kernel>_codes` and
    `<kernel>_scale`, with `<kernel>_zero_point` or `<kernel>_codebook` where
    the quantizer says so, and the kernel is computed from them where the
    layer reads it. Codes are int8, or bytes that hold several when they have
    at most 4 bits. Biases stay as they are and can be trained.

    A new layer's kernels are zero: kernels come from
    `keras_squeeze.quantize`, from a file, or by `assign_kernel`.

    Args:
        *args: What the Keras layer takes.
        kernel_quantizer: String, config or `Quantizer`. Defaults to
            `"absmax"`.
        bits: Integer from 1 to 8. Defaults to the quantizer's own, mostly `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        **kwargs: What the Keras layer takes.

    Raises:
        SqueezeError: If an argument is out of its range.
    """

    #: The kernels a layer of the class may have, each also an attribute.
    kernel_names: ClassVar[tuple[str, ...]] = ("kernel",)
    # Channels first in storage: XLA multiplies (out, in) codes many times
    # faster than (in, out) when the batch is small.
    channels_first: ClassVar[bool] = False

    # A tuple: Keras and TensorFlow would wrap a dictionary to track it.
    _layouts: tuple[KernelLayout, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in cls.kernel_names:
            if name not in cls.__dict__:
                setattr(cls, name, _kernel_property(name))

    def __init__(
        self,
        *args: Any,
        kernel_quantizer: Any = "absmax",
        bits: int | None = None,
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

    def channel_axis(
        self, shape: tuple[int, ...], name: str = "kernel"
    ) -> tuple[int, ...]:
        """The axes of a kernel that a channel's scale belongs to.

        Args:
            shape: Tuple of integers. The kernel's shape.
            name: String. The kernel's name. Defaults to `"kernel"`.

        Returns:
            Ascending tuple of axes.
        """
        return (len(shape) - 1,)

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """Adds a variable; for a kernel, its codes and scale instead."""
        name = kwargs.get("name")
        if name not in self.kernel_names:
            return super().add_weight(*args, **kwargs)
        layout = kernel_layout(
            type(self),
            self,
            name,
            args[0] if args else kwargs["shape"],
            self.kernel_quantizer,
        )
        self._layouts = (*self._layouts, layout)
        for key, (shape, dtype) in layout.variables().items():
            variable = super().add_weight(
                shape=shape,
                dtype=dtype,
                initializer="zeros",
                trainable=False,
                autocast=False,
                name=key,
            )
            setattr(self, key, variable)
        return None

    @property
    def layouts(self) -> dict[str, KernelLayout]:
        """How each kernel is stored, by its name; empty before `build`."""
        return {layout.name: layout for layout in self._layouts}

    @property
    def layout(self) -> KernelLayout:
        """How the only kernel is stored."""
        return self._layout(None)

    @property
    def packings(self) -> tuple[Packing, ...]:
        """How codes are packed, for the kernels whose codes are."""
        found = [self.stored(name).packing for name in self.layouts]
        return tuple(packing for packing in found if packing is not None)

    def stored(self, kernel: str | None = None) -> StoredKernel:
        """The variables of a kernel.

        Args:
            kernel: String. The kernel's name; may be left out if the layer
                has one only. Defaults to `None`.

        Returns:
            `StoredKernel`.

        Raises:
            SqueezeError: If there is no such kernel.
        """
        layout = self._layout(kernel)
        names = layout.variables()
        return StoredKernel(layout, {n: getattr(self, n) for n in names})

    def _layout(self, kernel: str | None) -> KernelLayout:
        self._check_built()
        layouts = self.layouts
        if kernel is None and len(layouts) == 1:
            return self._layouts[0]
        if kernel not in layouts:
            raise SqueezeError(
                f"Expected one of the kernels {list(layouts)} of "
                f"{self.name!r}. Received: kernel={kernel!r}"
            )
        return layouts[kernel]

    def dequantized(self, kernel: str | None = None) -> Any:
        """A kernel computed from its codes, in the layer's compute dtype.

        Args:
            kernel: String. The kernel's name. Defaults to `None`.

        Returns:
            float tensor of the kernel's shape.
        """
        stored = self.stored(kernel)
        held = held_kernel(self, stored.layout.name)
        return stored.dequantized(self.compute_dtype) if held is None else held

    def _check_built(self) -> None:
        if not self._layouts:
            raise AttributeError(
                f"You must build the layer {self.name!r} before accessing "
                f"`{self.kernel_names[0]}`."
            )

    def call(self, inputs: Any, training: Any = None) -> Any:
        """What the Keras layer computes, with the dequantized kernel."""
        with computed_after(inputs):
            return super().call(inputs)

    def assign_kernel(
        self, value: Any, name: str = "", kernel: str | None = None
    ) -> QuantizedTensor:
        """Quantizes a kernel with the layer's quantizer and stores it.

        Args:
            value: Array of the kernel's shape.
            name: String. The layer's path, for the message of an error.
            kernel: String. The kernel's name; may be left out if the layer
                has one only. Defaults to `None`.

        Returns:
            The `QuantizedTensor` that was stored.

        Raises:
            NonFiniteError: If a value is NaN or infinite.
            SqueezeError: If the shape does not fit.
        """
        layout = self._layout(kernel)
        array = np.asarray(ops.convert_to_numpy(value))
        layout.check_shape(array.shape)
        tensor = self.kernel_quantizer.encode(
            array, layout.channel_axis, name or self.name
        )
        self.assign_quantized(tensor, kernel)
        return tensor

    def assign_quantized(
        self, tensor: QuantizedTensor, kernel: str | None = None
    ) -> None:
        """Stores a kernel that is quantized already.

        Args:
            tensor: `QuantizedTensor` made by a quantizer like the layer's.
            kernel: String. The kernel's name. Defaults to `None`.

        Raises:
            SqueezeError: If shape, bits, axis, groups or codebook do not fit.
        """
        for name, value in self._layout(kernel).values(tensor).items():
            getattr(self, name).assign(value)

    def quantized_kernel(self, kernel: str | None = None) -> QuantizedTensor:
        """A kernel as it is stored, as a `QuantizedTensor`.

        Args:
            kernel: String. The kernel's name. Defaults to `None`.

        Returns:
            `QuantizedTensor` whose codes have the kernel's shape.
        """
        return self.stored(kernel).tensor()

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


def _kernel_property(name: str) -> property:
    """The attribute under which a Keras layer reads one of its kernels."""

    def read(self: Any) -> Any:
        if name not in self.layouts and self._layouts:
            raise AttributeError(f"{self.name!r} has no kernel {name!r}.")
        return self.dequantized(name)

    def write(self: Any, value: Any) -> None:
        # `build` of some Keras layers assigns what `add_weight` returned.
        if value is not None:
            raise SqueezeError(
                f"The kernels of {self.name!r} are quantized: use "
                "`assign_kernel(value)`. "
                f"Received: an assignment to `{name}`"
            )

    read.__doc__ = (
        f"The `{name}` computed from its codes, in the compute dtype."
    )
    return property(read, write)

"""The mixin of layers that are trained with the rounding of their kernels."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.conversion import kernel_axis
from keras_squeeze.layers.held_kernels import held_kernel
from keras_squeeze.layers.kernel_layout import KernelLayout
from keras_squeeze.layers.quantization_aware_kernel import Part, TrainedKernel
from keras_squeeze.layers.quantizer_arguments import (
    layer_quantizer,
    quantizer_arguments,
)
from keras_squeeze.quantizers import QuantizedTensor


class QuantizationAware(keras.layers.Layer):
    """Mixin: a Keras layer that computes with its kernels rounded to a grid.

    Stands before a Keras layer in the bases. The float kernel stays the
    trainable variable that it was; wherever the layer reads it, it gets the
    kernel as it will be once it is stored in few bits, and gradients pass the
    rounding straight through to the float kernel. What the grid is made of is
    learned with it: `<kernel>_log_step`, the logarithm of how far each step
    has moved from `<kernel>_scale`, or `<kernel>_codebook`.

    A new layer's grids span the largest magnitude of its initial kernels.

    Args:
        *args: What the Keras layer takes.
        kernel_quantizer: String, config or `Quantizer`. Defaults to `"mse"`.
        bits: Integer from 1 to 8. Defaults to `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        learn_scale: Boolean. Whether steps or levels are learned. Defaults
            to `True`.
        **kwargs: What the Keras layer takes.

    Raises:
        SqueezeError: If an argument is out of its range.

    References:
        [Esser et al., 2020](https://arxiv.org/abs/1902.08153),
        [Agustsson et al., 2017](https://arxiv.org/abs/1704.00648)
    """

    #: The kernels a layer of the class may have, each also an attribute.
    kernel_names: ClassVar[tuple[str, ...]] = ("kernel",)

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
        kernel_quantizer: Any = "mse",
        bits: int = 8,
        granularity: str = "per_channel",
        group_size: int | None = None,
        learn_scale: bool = True,
        **kwargs: Any,
    ) -> None:
        quantizer = layer_quantizer(
            kernel_quantizer, bits, granularity, group_size
        )
        super().__init__(*args, **kwargs)
        self.kernel_quantizer = quantizer
        self.learn_scale = bool(learn_scale)
        if getattr(self, "quantization_mode", None) is not None:
            raise SqueezeError(
                f"Expected a floating-point dtype policy for {self.name!r}: "
                "its kernel is trained. Received: "
                f"dtype={self.dtype_policy.name!r}"
            )

    def build(self, input_shape: Any = None) -> None:
        """Builds the Keras layer, and a grid for each of its kernels."""
        super().build(input_shape)
        if self._layouts:
            return
        for name in self.kernel_names:
            variable = self.kernel_variable(name)
            if variable is None:
                continue
            self._layouts = (*self._layouts, self.new_layout(name, variable))
            kernel = self.trained_kernel(name)
            for part, spec in kernel.specs().items():
                self._add_part(kernel, part, spec)

    def new_layout(self, name: str, variable: Any) -> KernelLayout:
        """The shapes of a kernel and of its scales.

        Args:
            name: String. The kernel's name.
            variable: The `keras.Variable` of the float kernel.

        Returns:
            `KernelLayout`.
        """
        shape = tuple(int(size) for size in variable.shape)
        axis = kernel_axis(self, name, shape)
        return KernelLayout(name, shape, axis, False, self.kernel_quantizer)

    def _add_part(self, kernel: TrainedKernel, part: str, spec: Part) -> None:
        def initializer(shape: Any, dtype: Any = None) -> Any:
            return ops.cast(kernel.initial(part), spec.dtype)

        name = kernel.layout.variable_name(part)
        variable = self.add_weight(
            shape=spec.shape,
            dtype=spec.dtype,
            initializer=initializer,
            trainable=spec.trainable,
            autocast=False,
            name=name,
        )
        setattr(self, name, variable)

    def kernel_variable(self, name: str | None = None) -> Any:
        """The variable that holds a float kernel; `None` if there is none.

        Args:
            name: String. The kernel's name; may be left out if the layer has
                one only. Defaults to `None`.

        Returns:
            `keras.Variable` or `None`.
        """
        name = self._single(name) or ""
        for attribute in (f"_{name}", name):
            value = self.__dict__.get(attribute)
            if isinstance(value, keras.Variable):
                return value
        return None

    @property
    def layouts(self) -> dict[str, KernelLayout]:
        """The layout of each kernel by its name; empty before `build`."""
        return {layout.name: layout for layout in self._layouts}

    def trained_kernel(self, name: str | None = None) -> TrainedKernel:
        """A kernel and the grid it is rounded to.

        Args:
            name: String. The kernel's name; may be left out if the layer has
                one only. Defaults to `None`.

        Returns:
            `TrainedKernel`.

        Raises:
            SqueezeError: If there is no such kernel.
        """
        name = self._single(name)
        if name is None or name not in self.layouts:
            raise SqueezeError(
                f"Expected one of the kernels {list(self.layouts)} of "
                f"{self.name!r}. Received: name={name!r}"
            )
        layout, variable = self.layouts[name], self.kernel_variable(name)
        empty = TrainedKernel(layout, self.learn_scale, variable)
        parts = {
            part: getattr(self, layout.variable_name(part))
            for part in empty.specs()
            if hasattr(self, layout.variable_name(part))
        }
        return TrainedKernel(layout, self.learn_scale, variable, parts)

    def _single(self, name: str | None) -> str | None:
        layouts = self.layouts
        if name is None:
            names = list(layouts) or list(self.kernel_names)
            return names[0] if len(names) == 1 else None
        return name

    def dequantized(self, name: str | None = None) -> Any:
        """A kernel as it will be once it is stored, in the compute dtype.

        Args:
            name: String. The kernel's name. Defaults to `None`.

        Returns:
            Float tensor of the kernel's shape, with gradients.
        """
        kernel = self.trained_kernel(name)
        held = held_kernel(self, kernel.layout.name)
        return (
            kernel.fake_quantized(self.compute_dtype) if held is None else held
        )

    def quantized_kernel(self, name: str | None = None) -> QuantizedTensor:
        """A kernel on the grid it has now, as a `QuantizedTensor`.

        Args:
            name: String. The kernel's name. Defaults to `None`.

        Returns:
            `QuantizedTensor` whose codes have the kernel's shape.
        """
        return self.trained_kernel(name).tensor()

    def assign_hardness(self, hardness: float) -> None:
        """Says how far weights are drawn to the levels of learned codebooks.

        Args:
            hardness: Float in [0, 1]. With 0 they are what they are, with 1
                they are their levels.
        """
        for name in self.layouts:
            variable = self.trained_kernel(name).parts.get("hardness")
            if variable is not None:
                variable.assign(hardness)

    def enable_lora(self, *args: Any, **kwargs: Any) -> None:
        """Not for such a layer: the sum would not lie on its grid."""
        raise SqueezeError(
            "Expected a layer whose kernel is not rounded to a grid: enable "
            f"LoRA before. Received: {self.name!r}"
        )

    def quantize(self, mode: Any = None, *args: Any, **kwargs: Any) -> None:
        """Not for such a layer: it is on its way to another quantization."""
        raise SqueezeError(
            f"The kernel of {self.name!r} is trained for keras_squeeze's "
            f"quantization. Received: quantize(mode={mode!r})"
        )

    def save_own_variables(self, store: Any) -> None:
        """Saves all variables by name: their order tells how they came."""
        for variable in self._own_variables():
            store[variable.name] = variable

    def load_own_variables(self, store: Any) -> None:
        """Loads all variables by name."""
        own = self._own_variables()
        expected, found = {v.name for v in own}, set(store.keys())
        if expected != found:
            raise SqueezeError(
                f"Expected the variables {sorted(expected)} for the layer "
                f"{self.name!r}, which is trained with quantization. "
                f"Received: {sorted(found)}"
            )
        for variable in own:
            variable.assign(store[variable.name])

    def _own_variables(self) -> list[Any]:
        return [*self._trainable_variables, *self._non_trainable_variables]

    def get_config(self) -> dict[str, Any]:
        """The Keras layer's config, the quantizer's and `learn_scale`.

        Returns:
            JSON-ready dictionary.
        """
        return {
            **super().get_config(),
            **quantizer_arguments(self.kernel_quantizer),
            "learn_scale": self.learn_scale,
        }


def _kernel_property(name: str) -> property:
    """The attribute under which a Keras layer reads one of its kernels."""

    def read(self: Any) -> Any:
        if name in self.layouts:
            return self.dequantized(name)
        variable = self.kernel_variable(name)
        if variable is None:
            raise AttributeError(
                f"You must build the layer {self.name!r} before accessing "
                f"`{name}`."
            )
        return variable

    def write(self: Any, value: Any) -> None:
        # Some Keras layers keep the variable itself under this name.
        self.__dict__[name] = value

    read.__doc__ = f"The `{name}` rounded to its grid, in the compute dtype."
    return property(read, write)

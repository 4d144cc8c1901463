"""Which axis of a layer's input meets which axis of its kernel."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.surgery.layer_tree import Kernel

_layers = keras.layers
_DepthwiseConv = _layers.DepthwiseConv2D.__mro__[1]
_SeparableConv = _layers.SeparableConv2D.__mro__[1]
_ConvTranspose = _layers.Conv2DTranspose.__mro__[1]
_Conv = _layers.Conv2D.__mro__[1]
_CELLS = (_layers.LSTMCell, _layers.GRUCell, _layers.SimpleRNNCell)


@dataclasses.dataclass(frozen=True)
class InputAxes:
    """How the inputs of a layer lie beside its kernel.

    Args:
        input_axes: Axes of the input that are indices of the kernel too.
        kernel_axes: The kernel's axes of the same indices, in that order.
        sizes: Their sizes in the input.
        kernel_shape: The kernel's shape.
        groups: Integer. Groups of a convolution. Defaults to `1`.
        state: Boolean. Whether the kernel multiplies a recurrent cell's
            state instead of its inputs. Defaults to `False`.
    """

    input_axes: tuple[int, ...]
    kernel_axes: tuple[int, ...]
    sizes: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    groups: int = 1
    state: bool = False

    @property
    def size(self) -> int:
        """How many indices there are."""
        return int(np.prod(self.sizes, dtype=np.int64))

    def select(self, *args: Any, **kwargs: Any) -> Any:
        """The tensor that the kernel multiplies, from a call's arguments."""
        values = [*args, *kwargs.values()]
        if not self.state:
            return values[0]
        states = values[1]
        return states[0] if isinstance(states, list | tuple) else states

    def others(self, rank: int) -> tuple[int, ...]:
        """The axes of an input of that rank that the kernel does not have."""
        kept = {axis % rank for axis in self.input_axes}
        return tuple(axis for axis in range(rank) if axis not in kept)

    def arrange(self, values: NDArray[Any]) -> NDArray[Any]:
        """Figures a kept index, in the input's order, beside the kernel.

        Args:
            values: Array of `size` figures.

        Returns:
            Array that is broadcastable to the kernel.
        """
        if self.groups > 1:
            return self._arrange_groups(values)
        order = np.argsort(self.kernel_axes)
        shape = [1] * len(self.kernel_shape)
        for axis, size in zip(self.kernel_axes, self.sizes, strict=True):
            shape[axis] = size
        return values.reshape(self.sizes).transpose(order).reshape(shape)

    def _arrange_groups(self, values: NDArray[Any]) -> NDArray[Any]:
        # Output channels come group by group; each sees its group's inputs.
        outputs = self.kernel_shape[-1] // self.groups
        grouped = values.reshape(self.groups, -1).T
        lead = (1,) * (len(self.kernel_shape) - 2)
        repeated = np.repeat(grouped, outputs, axis=1)
        return repeated.reshape(*lead, *repeated.shape)


def input_axes(kernel: Kernel) -> InputAxes | None:
    """How the inputs of a kernel's layer lie beside the kernel.

    Args:
        kernel: `Kernel`.

    Returns:
        `InputAxes`, or `None` where the kernel does not multiply the layer's
        inputs: an Embedding, the second kernel of a separable convolution.
    """
    layer, shape = kernel.layer, tuple(kernel.variable.shape)
    if isinstance(layer, _layers.EinsumDense):
        return _of_equation(layer, shape)
    if isinstance(layer, _layers.Dense):
        return InputAxes((-1,), (0,), shape[:1], shape)
    if isinstance(layer, _CELLS):
        state = kernel.attribute == "recurrent_kernel"
        return InputAxes((-1,), (0,), shape[:1], shape, state=state)
    return _of_convolution(kernel, shape)


def _of_convolution(kernel: Kernel, shape: tuple[int, ...]) -> InputAxes | None:
    layer = kernel.layer
    if kernel.attribute == "pointwise_kernel":
        return None
    rank = len(shape)
    channels_last = getattr(layer, "data_format", None) == "channels_last"
    channels = (-1,) if channels_last else (-(rank - 1),)
    if isinstance(layer, _ConvTranspose):
        return InputAxes(channels, (rank - 1,), shape[-1:], shape)
    if isinstance(layer, _DepthwiseConv | _SeparableConv | _Conv):
        groups = getattr(layer, "groups", 1)
        sizes = (shape[-2] * groups,)
        return InputAxes(channels, (rank - 2,), sizes, shape, groups)
    return None


def _of_equation(layer: Any, shape: tuple[int, ...]) -> InputAxes:
    operands = layer.equation.replace(" ", "").split("->")[0]
    inputs, kernel = operands.split(",")
    kernel = kernel.replace("...", "")
    before, dots, after = inputs.partition("...")
    if not dots:
        before, after = "", inputs
    places = dict(enumerate(before)) | {
        i - len(after): letter for i, letter in enumerate(after)
    }
    # Letters that input and kernel share, whether or not they are summed.
    kept = {axis: kernel.index(c) for axis, c in places.items() if c in kernel}
    axes = tuple(kept.values())
    return InputAxes(tuple(kept), axes, tuple(shape[a] for a in axes), shape)

"""`EinsumDense` with a quantized kernel."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_squeeze.layers.dequantization import computed_after
from keras_squeeze.layers.scaled_output import ScaledOutput


@keras.saving.register_keras_serializable(package="keras_squeeze")
class QuantizedEinsumDense(ScaledOutput, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` whose kernel is integer codes and a scale.

    Takes what `EinsumDense` takes, and `kernel_quantizer`, `bits`,
    `granularity` and `group_size` (see `QuantizedKernel`). A channel is one
    index of the kernel's axes that are in the output: with the equation
    `"abc,cde->abde"` of attention, one dimension of one head.

    Example:
    >>> layer = QuantizedEinsumDense("abc,cde->abde", (None, 2, 3), bits=8)
    >>> layer.build((None, 5, 4))
    >>> [(v.name, tuple(v.shape)) for v in layer.non_trainable_variables]
    [('kernel_codes', (2, 3, 4)), ('kernel_scale', (6, 1))]
    """

    channels_first = True

    def channel_axis(
        self, shape: tuple[int, ...], name: str = "kernel"
    ) -> tuple[int, ...]:
        """The axes of the kernel that the equation keeps in the output.

        Args:
            shape: Tuple of integers. The kernel's shape.
            name: String. The kernel's name. Defaults to `"kernel"`.

        Returns:
            Ascending tuple of axes, `()` if the equation keeps none.
        """
        _, kernel, output = _labels(self.equation)
        return tuple(i for i, label in enumerate(kernel) if label in output)

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Contracts with the levels, and multiplies the result by the scale."""
        if not self.scales_output:
            return super().call(inputs)
        left, kernel, output = _labels(self.equation)
        stored = "".join(kernel[axis] for axis in self.layout.order)
        with computed_after(inputs):
            levels = self.stored().levels(self.compute_dtype)
            equation = f"{left},{stored}->{output}"
            outputs = ops.einsum(equation, inputs, levels)
            scale = self._output_scale(kernel, output, len(outputs.shape))
            return self.finish(outputs * ops.cast(scale, self.compute_dtype))

    def _output_scale(self, kernel: str, output: str, rank: int) -> Any:
        """The scale in a shape that broadcasts against the output."""
        layout = self.layout
        sizes = {kernel[i]: layout.shape[i] for i in layout.axis}
        # An ellipsis stands for as many labels as the output has more.
        fill = "." * (rank - len(output.replace("...", "")))
        labels = output.replace("...", fill)
        scale = ops.reshape(
            self.stored().part("scale"), list(sizes.values()) or [1]
        )
        order = sorted(
            range(len(sizes)), key=lambda i: labels.index([*sizes][i])
        )
        shape = [sizes.get(label, 1) for label in labels]
        return ops.reshape(ops.transpose(scale, order or None), shape)


def _labels(equation: str) -> tuple[str, str, str]:
    """Axis labels of the inputs, the kernel and the output."""
    operands, output = equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    return inputs, kernel, output

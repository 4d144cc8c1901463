"""The mixin for layers whose output can be scaled in place of the kernel."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_squeeze.layers.quantized_kernel import QuantizedKernel


class ScaledOutput(QuantizedKernel):
    """Mixin: a matrix product with levels, then a scale for each output."""

    @property
    def scales_output(self) -> bool:
        """Whether the scale may multiply the layer's output, not its kernel.

        That is less work than scaling the kernel, and without it XLA computes
        the kernel anew for every row. The sums of a float16 layer could
        overflow before they are scaled.
        """
        one_group = self.kernel_quantizer.granularity != "per_group"
        return one_group and self.compute_dtype != "float16"

    def finish(self, outputs: Any) -> Any:
        """Adds the bias and applies the activation, as Keras' `call` does.

        Args:
            outputs: Tensor.

        Returns:
            Tensor of the same shape.
        """
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        if self.activation is not None:
            outputs = self.activation(outputs)
        return outputs

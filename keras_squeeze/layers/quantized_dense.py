"""`Dense` with a quantized kernel."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_squeeze.layers.code_planes import (
    product_with_planes,
    splits_by_units,
)
from keras_squeeze.layers.dequantization import computed_after
from keras_squeeze.layers.scaled_output import ScaledOutput


@keras.saving.register_keras_serializable(package="keras_squeeze")
class QuantizedDense(ScaledOutput, keras.layers.Dense):
    """`keras.layers.Dense` whose kernel is integer codes and a scale.

    Takes what `Dense` takes, and `kernel_quantizer`, `bits`, `granularity`
    and `group_size` (see `QuantizedKernel`). A channel is an output unit; the
    codes are stored as `(units, inputs)`.

    Example:
    >>> layer = QuantizedDense(2, bits=4)
    >>> layer.build((None, 4))
    >>> [(v.name, tuple(v.shape)) for v in layer.non_trainable_variables]
    [('kernel_codes', (4,)), ('kernel_scale', (2, 1))]
    """

    channels_first = True

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Multiplies with the levels, and the result with the scale."""
        if not self.scales_output:
            return super().call(inputs)
        with computed_after(inputs):
            stored = self.stored()
            if splits_by_units(stored):
                outputs = product_with_planes(inputs, stored)
            else:
                levels = stored.levels(self.compute_dtype)
                outputs = ops.matmul(inputs, ops.transpose(levels))
            scale = ops.reshape(stored.part("scale"), (-1,))
            return self.finish(outputs * ops.cast(scale, self.compute_dtype))

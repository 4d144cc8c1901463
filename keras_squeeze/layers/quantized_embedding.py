"""`Embedding` with quantized rows."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_squeeze.layers.dequantization import (
    computed_after,
    expand_groups,
    fields_to_codes,
    scaled,
)
from keras_squeeze.layers.quantized_kernel import QuantizedKernel


@keras.saving.register_keras_serializable(package="keras_squeeze")
class QuantizedEmbedding(QuantizedKernel, keras.layers.Embedding):
    """`keras.layers.Embedding` whose rows are integer codes and a scale.

    Takes what `Embedding` takes, and `kernel_quantizer`, `bits`,
    `granularity` and `group_size` (see `QuantizedKernel`). A channel is a
    row. Only the rows that are looked up are turned into floats.

    Example:
    >>> layer = QuantizedEmbedding(10, 4, bits=4)
    >>> layer.build()
    >>> [(v.name, tuple(v.shape)) for v in layer.non_trainable_variables]
    [('embeddings_codes', (20,)), ('embeddings_scale', (10, 1))]
    """

    kernel_name = "embeddings"

    def __init__(self, *args: Any, weights: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if weights is not None:
            self.build()
            single = isinstance(weights, list) and len(weights) == 1
            self.assign_kernel(weights[0] if single else weights)

    def channel_axis(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The rows."""
        return (0,)

    @property
    def embeddings(self) -> Any:
        """All rows computed from their codes, in the compute dtype."""
        return self.kernel

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Looks the rows of `inputs` up, then dequantizes these."""
        if inputs.dtype not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        inputs = ops.where(inputs < 0, inputs + self.input_dim, inputs)
        with computed_after(inputs):
            codes, scale = self._code_rows(inputs), self._scale_rows(inputs)
            return scaled(codes, scale, self.compute_dtype)

    def _code_rows(self, rows: Any) -> Any:
        packing = self.packing
        if packing is None:
            return ops.take(self.codes_variable, rows, axis=0)
        size, fields = self.codes_variable.shape[0], 8 // packing.width
        columns = ops.arange(self.output_dim, dtype=rows.dtype)
        flat = ops.expand_dims(rows, -1) * self.output_dim + columns
        # An index beyond the table stays beyond its bytes: it must not be
        # read from a plane that does not exist.
        plane = ops.minimum(flat // size, fields - 1)
        packed = ops.take(self.codes_variable, flat - plane * size, axis=0)
        shift = ops.cast(plane * packing.width, "uint8")
        return fields_to_codes(ops.right_shift(packed, shift), packing.width)

    def _scale_rows(self, rows: Any) -> Any:
        quantizer = self.kernel_quantizer
        if quantizer.granularity == "per_tensor":
            return ops.reshape(self.scale_variable, ())
        scale = ops.take(self.scale_variable, rows, axis=0)
        return expand_groups(scale, quantizer.group_size, self.output_dim)

"""`Embedding` with quantized rows."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from keras_squeeze.layers.codebook_lookup import look_up_rows
from keras_squeeze.layers.dequantization import (
    computed_after,
    expand_groups,
    fields_to_codes,
    scaled,
    working_dtype,
)
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.layers.stored_kernel import StoredKernel


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

    kernel_names: ClassVar[tuple[str, ...]] = ("embeddings",)

    def __init__(self, *args: Any, weights: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if weights is not None:
            self.build()
            single = isinstance(weights, list) and len(weights) == 1
            self.assign_kernel(
                weights[0] if single else weights, kernel="embeddings"
            )

    def channel_axis(
        self, shape: tuple[int, ...], name: str = "embeddings"
    ) -> tuple[int, ...]:
        """The rows."""
        return (0,)

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Looks the rows of `inputs` up, then dequantizes these."""
        if inputs.dtype not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        inputs = ops.where(inputs < 0, inputs + self.input_dim, inputs)
        stored = self.stored("embeddings")
        working = working_dtype(self.compute_dtype, stored.has_codebook)
        with computed_after(inputs):
            levels = self._levels(stored, inputs, working)
            scale = self._per_value(stored, "scale", inputs)
            return scaled(levels, scale, working, self.compute_dtype)

    def _levels(self, stored: StoredKernel, rows: Any, dtype: str) -> Any:
        codes = self._code_rows(stored, rows)
        codebook = stored.codebook
        if codebook is not None:
            own = ops.expand_dims(rows, -1) if codebook.shape[0] > 1 else 0
            bits = stored.layout.quantizer.bits
            return look_up_rows(codes, codebook, bits, own)
        levels = ops.cast(codes, dtype)
        if stored.part("zero_point") is None:
            return levels
        return levels - ops.cast(
            self._per_value(stored, "zero_point", rows), dtype
        )

    def _code_rows(self, stored: StoredKernel, rows: Any) -> Any:
        variable: Any = stored.part("codes")
        width = stored.layout.width
        if width == 8:
            return ops.take(variable, rows, axis=0)
        size, fields = variable.shape[0], 8 // width
        columns = ops.arange(self.output_dim, dtype=rows.dtype)
        flat = ops.expand_dims(rows, -1) * self.output_dim + columns
        # An index beyond the table stays beyond its bytes: it must not be
        # read from a plane that does not exist.
        plane = ops.minimum(flat // size, fields - 1)
        packed = ops.take(variable, flat - plane * size, axis=0)
        shift = ops.cast(plane * width, "uint8")
        return fields_to_codes(ops.right_shift(packed, shift), width)

    def _per_value(self, stored: StoredKernel, part: str, rows: Any) -> Any:
        """Scales or zero points of rows, in a shape that broadcasts."""
        quantizer = stored.layout.quantizer
        groups = ops.convert_to_tensor(stored.part(part))
        if quantizer.granularity == "per_tensor":
            return ops.reshape(groups, ())
        groups = ops.take(groups, rows, axis=0)
        return expand_groups(groups, quantizer.group_size, self.output_dim)

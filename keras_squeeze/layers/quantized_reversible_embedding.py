"""`ReversibleEmbedding` with quantized rows, in both directions."""

from __future__ import annotations

from typing import Any

import keras

from keras_squeeze.layers.dequantization import computed_after
from keras_squeeze.layers.quantized_embedding import QuantizedEmbedding


@keras.saving.register_keras_serializable(package="keras_squeeze")
class QuantizedReversibleEmbedding(
    keras.layers.ReversibleEmbedding, QuantizedEmbedding
):
    """`keras.layers.ReversibleEmbedding`, integer codes and a scale a row.

    Takes what `ReversibleEmbedding` takes, and `kernel_quantizer`, `bits`,
    `granularity` and `group_size` (see `QuantizedKernel`). The kernel of the
    reverse projection, if it is one of its own, is quantized too.

    Example:
    >>> layer = QuantizedReversibleEmbedding(10, 4, tie_weights=False)
    >>> layer.build()
    >>> sorted(layer.layouts)
    ['embeddings', 'reverse_embeddings']
    """

    kernel_names = ("embeddings", "reverse_embeddings")

    def channel_axis(
        self, shape: tuple[int, ...], name: str = "embeddings"
    ) -> tuple[int, ...]:
        """The entries of the vocabulary."""
        return (1,) if name == "reverse_embeddings" else (0,)

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        """Looks rows up, or projects back onto the vocabulary."""
        with computed_after(inputs):
            return keras.layers.ReversibleEmbedding.call(
                self, inputs, reverse=reverse
            )

    def quantize(self, mode: Any = None, *args: Any, **kwargs: Any) -> None:
        """Not for a quantized kernel: it is quantized already."""
        QuantizedEmbedding.quantize(self, mode, *args, **kwargs)

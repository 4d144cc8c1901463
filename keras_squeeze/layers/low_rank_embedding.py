"""`Embedding` as a narrower one and a `Dense` layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.factor_chain import common_arguments
from keras_squeeze.layers.low_rank_layer import LowRankLayer


@keras.saving.register_keras_serializable(package="keras_squeeze")
class LowRankEmbedding(LowRankLayer, keras.layers.Embedding):
    """`keras.layers.Embedding` whose table is the product of two matrices.

    Takes what `Embedding` takes but `weights`, and `rank`, `method` and
    `factors` (see `LowRankLayer`). The factors are an `Embedding` of `rank`
    columns, `"reduce"`, and a `Dense` layer without a bias, `"expand"`, that
    starts as Keras' `Dense` does. Only the rows looked up are expanded.

    Example:
    >>> layer = LowRankEmbedding(100, 8, rank=2)
    >>> layer.build()
    >>> [(v.path.split("/", 1)[1], tuple(v.shape)) for v in layer.weights]
    [('reduce/embeddings', (100, 2)), ('expand/kernel', (2, 8))]
    """

    kernel_name = "embeddings"

    def __init__(self, *args: Any, weights: Any = None, **kwargs: Any) -> None:
        if weights is not None:
            raise SqueezeError(
                "Expected a factorized embedding to get its values from a "
                "file or from an `Embedding` that is factorized. Received: "
                "the argument `weights`"
            )
        super().__init__(*args, **kwargs)

    @staticmethod
    def chain(layer: Any, method: str, ranks: tuple[int, ...]) -> list[Any]:
        """An `Embedding` and a `Dense` layer, not built."""
        shared = common_arguments(layer, "embeddings")
        initializer = shared.pop("kernel_initializer")
        regularizer = shared.pop("kernel_regularizer")
        return [
            keras.layers.Embedding(
                layer.input_dim,
                ranks[0],
                embeddings_initializer=initializer,
                embeddings_regularizer=regularizer,
                name="reduce",
                **shared,
            ),
            keras.layers.Dense(
                layer.output_dim,
                use_bias=False,
                kernel_regularizer=regularizer,
                name="expand",
                **shared,
            ),
        ]

    @staticmethod
    def compose(layer: Any, method: str, kernels: Sequence[Any]) -> Any:
        """The product of both matrices."""
        return ops.matmul(kernels[0], kernels[1])

    @property
    def embeddings(self) -> Any:
        """The whole table, computed at each access."""
        return self._composed("embeddings")

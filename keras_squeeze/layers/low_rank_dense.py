"""`Dense` as two smaller ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_squeeze.layers.factor_chain import (
    common_arguments,
    finished,
    output_arguments,
)
from keras_squeeze.layers.low_rank_layer import LowRankOutput


@keras.saving.register_keras_serializable(package="keras_squeeze")
class LowRankDense(LowRankOutput, keras.layers.Dense):
    """`keras.layers.Dense` whose kernel is the product of two.

    Takes what `Dense` takes, and `rank`, `method` and `factors` (see
    `LowRankLayer`). The factors are `Dense` layers: `"reduce"` to `rank`
    values without a bias, `"expand"` to `units` with bias and activation.

    Example:
    >>> layer = LowRankDense(6, rank=2)
    >>> layer.build((None, 4))
    >>> [(v.path.split("/", 1)[1], tuple(v.shape)) for v in layer.weights[:2]]
    [('reduce/kernel', (4, 2)), ('expand/kernel', (2, 6))]
    """

    @staticmethod
    def chain(layer: Any, method: str, ranks: tuple[int, ...]) -> list[Any]:
        """Two `Dense` layers, not built."""
        return finished(
            layer,
            [
                keras.layers.Dense(
                    ranks[0],
                    use_bias=False,
                    name="reduce",
                    **common_arguments(layer),
                ),
                keras.layers.Dense(
                    layer.units,
                    use_bias=layer.use_bias,
                    name="expand",
                    **common_arguments(layer),
                    **output_arguments(layer),
                ),
            ],
        )

    @staticmethod
    def compose(layer: Any, method: str, kernels: Sequence[Any]) -> Any:
        """The product of both kernels."""
        return ops.matmul(kernels[0], kernels[1])

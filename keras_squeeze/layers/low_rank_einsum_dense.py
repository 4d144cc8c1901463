"""`EinsumDense` as two smaller ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.einsum_axes import einsum_axes
from keras_squeeze.layers.factor_chain import (
    common_arguments,
    finished,
    output_arguments,
)
from keras_squeeze.layers.low_rank_layer import LowRankOutput


@keras.saving.register_keras_serializable(package="keras_squeeze")
class LowRankEinsumDense(LowRankOutput, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` whose kernel is the product of two.

    Takes what `EinsumDense` takes, and `rank`, `method` and `factors` (see
    `LowRankLayer`). The factors are `EinsumDense` layers: `"reduce"` sums
    over the kernel's axes that the input has and leaves one of `rank`
    values, `"expand"` makes the axes of the output from it.

    Equations whose kernel has batch axes (labels of the input that are in
    the output too) are refused: each of their indices has a matrix.

    Example:
    >>> layer = LowRankEinsumDense("abc,cde->abde", (None, 2, 3), rank=2)
    >>> layer.build((None, 5, 4))
    >>> [(f.equation, tuple(f.kernel.shape)) for f in layer.factors]
    [('abc,cr->abr', (4, 2)), ('abr,rde->abde', (2, 2, 3))]
    """

    @staticmethod
    def reason_not_possible(layer: Any, method: str) -> str | None:
        """Why the equation is no product by a matrix."""
        axes = einsum_axes(layer.equation)
        spec = layer.input_spec
        if axes.left and spec is not None and spec.ndim <= len(axes.inputs):
            return "its ellipsis stands for no axis"
        return axes.reason_not_factorizable()

    @staticmethod
    def chain(layer: Any, method: str, ranks: tuple[int, ...]) -> list[Any]:
        """Two `EinsumDense` layers, not built."""
        axes = einsum_axes(layer.equation)
        reduce, expand = axes.factor_equations()
        output_shape = tuple(layer.partial_output_shape)
        return finished(
            layer,
            [
                keras.layers.EinsumDense(
                    reduce,
                    axes.between_shape(output_shape, ranks[0]),
                    name="reduce",
                    **common_arguments(layer),
                ),
                keras.layers.EinsumDense(
                    expand,
                    output_shape,
                    bias_axes=layer.bias_axes,
                    name="expand",
                    **common_arguments(layer),
                    **output_arguments(layer),
                ),
            ],
        )

    @staticmethod
    def compose(layer: Any, method: str, kernels: Sequence[Any]) -> Any:
        """The product of both kernels, with the kernel's order of axes."""
        axes = einsum_axes(layer.equation)
        letters = axes.factor_equations()[1].partition(",")[2]
        rank = letters[0]
        return ops.einsum(
            f"{axes.reduced}{rank},{rank}{axes.kept}->{axes.kernel}", *kernels
        )

    def build(self, input_shape: Any = None) -> None:
        """Checks the input as the Keras layer does, and builds the factors."""
        axes = einsum_axes(self.equation)
        if axes.left and len(input_shape) <= len(axes.inputs):
            raise SqueezeError(
                f"Expected the ellipsis of {self.equation!r} in {self.name!r} "
                f"to stand for an axis. Received: input_shape={input_shape}"
            )
        super().build(input_shape)

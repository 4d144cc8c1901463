"""Which live layers can be factorized, and which cannot and why."""

from __future__ import annotations

from typing import Any

import keras

from keras_squeeze.layers import low_rank_convolution as convolution
from keras_squeeze.layers.factor_chain import factor_variable
from keras_squeeze.layers.low_rank_arguments import reason_arguments_unfit
from keras_squeeze.layers.low_rank_dense import LowRankDense
from keras_squeeze.layers.low_rank_einsum_dense import LowRankEinsumDense
from keras_squeeze.layers.low_rank_embedding import LowRankEmbedding
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.layers.quantized_kernel import QuantizedKernel

LOW_RANK_CLASSES: dict[type, Any] = {
    keras.layers.Dense: LowRankDense,
    keras.layers.EinsumDense: LowRankEinsumDense,
    keras.layers.Embedding: LowRankEmbedding,
    keras.layers.Conv1D: convolution.LowRankConv1D,
    keras.layers.Conv2D: convolution.LowRankConv2D,
    keras.layers.Conv3D: convolution.LowRankConv3D,
}


def reason_not_factorizable(
    layer: Any, method: str | None = None
) -> str | None:
    """Why a layer cannot be factorized in place; `None` if it can.

    Args:
        layer: A Keras layer.
        method: Optional string. A decomposition's name: whether the layer
            has a chain of that kind. Defaults to the class' first.

    Returns:
        String or `None`.
    """
    if isinstance(layer, LowRankLayer):
        return "already factorized"
    if isinstance(layer, QuantizedKernel):
        return "already quantized"
    if type(layer) not in LOW_RANK_CLASSES:
        if isinstance(layer, tuple(LOW_RANK_CLASSES)):
            return f"a subclass of a Keras layer: {type(layer).__name__}"
        return f"no factorized layer for {type(layer).__name__}"
    if not layer.built:
        return "not built: it has no kernel yet"
    return _reason_unfit(layer, LOW_RANK_CLASSES[type(layer)], method)


def _reason_unfit(layer: Any, target: Any, method: str | None) -> str | None:
    if method is not None and method not in target.methods:
        return f"{type(layer).__name__} has no chain for method {method!r}"
    reason = reason_arguments_unfit(layer)
    if reason is None:
        reason = target.reason_not_possible(layer, method or target.methods[0])
    if reason is None:
        reason = reason_kernel_unfit(factor_variable(layer))
    if reason is None and "call" in layer.__dict__:
        reason = "its `call` was replaced on the object"
    return reason


def reason_kernel_unfit(variable: Any) -> str | None:
    """Why the variable of a kernel cannot give way to factors.

    Args:
        variable: `keras.Variable`, or `None` where there is none.

    Returns:
        String or `None`.
    """
    if variable is None:
        return "its kernel is not a variable of its own"
    if "float" not in keras.backend.standardize_dtype(variable.dtype):
        return f"its kernel is not floating-point ({variable.dtype})"
    if not _can_move(variable.constraint):
        return "its kernel has a constraint, which would end"
    return None


def _can_move(constraint: Any) -> bool:
    if constraint is None:
        return True
    # A pruning that runs in the same training masks the factors instead.
    moves = getattr(constraint, "moves_to_factors", False)
    return moves and constraint.inner is None


def reason_ranks_fixed(layer: Any) -> str | None:
    """Why the ranks of a layer cannot be changed; `None` if they can.

    Args:
        layer: A Keras layer.

    Returns:
        String or `None`.
    """
    if not isinstance(layer, LowRankLayer):
        return f"not factorized: {type(layer).__name__}"
    if not layer.built:
        return "not built: it has no factors yet"
    for factor in layer.factors:
        reason = (
            "already quantized"
            if isinstance(factor, QuantizedKernel)
            else reason_arguments_unfit(factor)
            or reason_kernel_unfit(factor_variable(factor))
        )
        if reason is not None:
            return f"its factor {factor.name!r}: {reason}"
    return None

"""Which arguments a factorized layer can have."""

from __future__ import annotations

import numbers
from typing import Any

import keras

from keras_squeeze.errors import SqueezeError

_RANK_COUNTS = {"tucker2": 2}


def checked_ranks(name: str, method: str, rank: Any) -> tuple[int, ...]:
    """Brings a rank argument into a tuple, one integer a rank.

    Args:
        name: String. The layer's name, for the message of an error.
        method: String. The decomposition's name.
        rank: Integer, or a list or tuple of integers.

    Returns:
        Tuple of integers.

    Raises:
        SqueezeError: If it is not made of positive integers, or not of as
            many as the method has ranks.
    """
    count = _RANK_COUNTS.get(method, 1)
    ranks = tuple(rank) if isinstance(rank, list | tuple) else (rank,) * count
    whole = all(
        isinstance(r, numbers.Integral) and not isinstance(r, bool)
        for r in ranks
    )
    if not whole or len(ranks) != count or min(ranks) < 1:
        raise SqueezeError(
            f"Expected `rank` of {name!r} to be a positive integer"
            + (f" or a list of {count}" if count > 1 else "")
            + f" for method {method!r}. Received: rank={rank!r}"
        )
    return tuple(int(r) for r in ranks)


def checked_method(layer: Any, method: str | None) -> str:
    """The name of the decomposition that a layer's factors come from.

    Args:
        layer: A factorized layer.
        method: Optional string; `None` for the first its class has.

    Returns:
        String.

    Raises:
        SqueezeError: If the class has no chain of that name.
    """
    chosen = layer.methods[0] if method is None else method
    if chosen not in layer.methods:
        raise SqueezeError(
            f"Expected `method` of {layer.name!r} to be one of "
            f"{list(layer.methods)}. Received: method={method!r}"
        )
    return str(chosen)


def reason_arguments_unfit(layer: Any) -> str | None:
    """Why a layer with these arguments cannot be a chain of factors.

    Args:
        layer: A Keras layer of a class that has a factorized class.

    Returns:
        String or `None`.
    """
    if layer.quantization_mode is not None:
        return f"quantized by Keras ({layer.quantization_mode})"
    if any(
        getattr(layer, name, None) for name in ("lora_rank", "lora_enabled")
    ):
        return "LoRA is enabled: its weights would be lost"
    if getattr(layer, "groups", 1) != 1:
        return f"a grouped convolution (groups={layer.groups})"
    constraints = ("kernel_constraint", "embeddings_constraint")
    if any(getattr(layer, name, None) is not None for name in constraints):
        return "a constraint on its kernel has no counterpart on the factors"
    if isinstance(getattr(layer, "activation", None), keras.layers.Layer):
        return "its activation is a layer with a state of its own"
    return None


def check_arguments(layer: Any) -> None:
    """Raises `SqueezeError` if a layer's arguments allow no chain.

    Args:
        layer: A factorized layer, not built.
    """
    reason = reason_arguments_unfit(layer)
    reason = reason or layer.reason_not_possible(layer, layer.method)
    if reason is not None:
        raise SqueezeError(
            f"Expected arguments that a factorized layer can have for "
            f"{layer.name!r}. Received: {reason}"
        )

"""A live Keras layer becomes its factorized class, in place."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.canonical_kernels import (
    canonical_factors,
    canonical_kernel,
    factors_to_canonical,
    from_canonical,
    kernel_info_arguments,
    kernel_shape,
    to_canonical,
)
from keras_squeeze.layers.class_change import change_class
from keras_squeeze.layers.factor_chain import build_chain, factor_variable
from keras_squeeze.layers.factorizable import (
    LOW_RANK_CLASSES,
    reason_not_factorizable,
    reason_ranks_fixed,
)
from keras_squeeze.layers.tracked_variables import (
    adopt_bias,
    drop_variable,
    unlocked,
)

__all__ = [
    "LOW_RANK_CLASSES",
    "Conversion",
    "canonical_factors",
    "canonical_kernel",
    "change_ranks",
    "convert_to_low_rank",
    "factor_variable",
    "factors_to_canonical",
    "from_canonical",
    "kernel_info_arguments",
    "kernel_shape",
    "reason_not_factorizable",
    "reason_ranks_fixed",
    "to_canonical",
]

# Keras binds the first two to the class an object was made with; the factors
# hold what stood under the others.
_STALE = ("_kernel", "_embeddings", "bias", "activation")


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What a change of a layer did to its variables.

    Args:
        layer: The layer, the same object as before.
        removed: List of `keras.Variable` that it no longer has.
        added: List of the new ones, in factor order.
    """

    layer: Any
    removed: list[Any]
    added: list[Any]


def convert_to_low_rank(
    layer: Any, method: str, factors: Sequence[np.ndarray]
) -> Conversion:
    """Turns a live layer into its factorized class.

    The object stays, so models that hold it need no change. The bias is the
    same variable as before, held by the last factor. Functions that were
    traced before still hold the old kernel, and an optimizer its slots: make
    them anew. Nothing is changed on an error.

    Args:
        layer: A built layer of exactly a class of Keras.
        method: String. The decomposition's name, as `"svd"`.
        factors: NumPy arrays as the decomposition gives them for
            `canonical_kernel(layer)`.

    Returns:
        `Conversion`.

    Raises:
        SqueezeError: If the layer cannot be factorized, or the factors do
            not fit.

    Example:
    >>> layer = keras.layers.Dense(3)
    >>> layer.build((None, 4))
    >>> kernel = layer.kernel.numpy()
    >>> u, s, v = np.linalg.svd(kernel, full_matrices=False)
    >>> conversion = convert_to_low_rank(layer, "svd", (u * s, v))
    >>> type(layer).__name__, layer.ranks, len(conversion.added)
    ('LowRankDense', (3,), 2)
    """
    reason = reason_not_factorizable(layer, method)
    if reason is not None:
        raise SqueezeError(
            "Expected a plain built Keras layer of one of the classes "
            f"{sorted(c.__name__ for c in LOW_RANK_CLASSES)} that has a chain "
            f"for method {method!r}. Received: {layer.name!r}, {reason}"
        )
    target, kernel = LOW_RANK_CLASSES[type(layer)], factor_variable(layer)
    ranks, chain = _new_chain(layer, target, method, factors)
    for factor in chain:
        _freeze_like(factor, layer, kernel)
    with unlocked(layer, *chain):
        if getattr(layer, "bias", None) is not None:
            adopt_bias(layer, chain[-1])
            drop_variable(layer, "bias")
        drop_variable(layer, f"_{target.kernel_name}")
        for name in _STALE:
            layer.__dict__.pop(name, None)
        change_class(layer, target)
        layer.method, layer.ranks = method, ranks
        layer.hold(chain)
    return Conversion(layer, [kernel], [factor_variable(f) for f in chain])


def change_ranks(layer: Any, factors: Sequence[np.ndarray]) -> Conversion:
    """Gives a live factorized layer new factors, of other ranks.

    New sublayers take the place of the old; the bias variable stays. Nothing
    is changed on an error.

    Args:
        layer: A built factorized layer with plain factors.
        factors: NumPy arrays in the canonical layout, for the same method.

    Returns:
        `Conversion`.

    Raises:
        SqueezeError: If the layer is not factorized, its factors are not
            plain any more, or the new ones do not fit.
    """
    reason = reason_ranks_fixed(layer)
    if reason is not None:
        raise SqueezeError(
            "Expected a built factorized layer with plain factors. "
            f"Received: {layer.name!r}, {reason}"
        )
    old = list(layer.factors)
    removed = [factor_variable(factor) for factor in old]
    ranks, chain = _new_chain(layer, type(layer), layer.method, factors)
    for factor, before, kernel in zip(chain, old, removed, strict=True):
        _freeze_like(factor, before, kernel)
    with unlocked(layer, *chain):
        if getattr(old[-1], "bias", None) is not None:
            adopt_bias(old[-1], chain[-1])
        for factor in old:
            layer._tracker.untrack(factor)
        layer.ranks = ranks
        layer.hold(chain)
    return Conversion(layer, removed, [factor_variable(f) for f in chain])


def _freeze_like(factor: Any, layer: Any, kernel: Any) -> None:
    factor.trainable = layer.trainable
    factor_variable(factor).trainable = kernel.trainable


def _new_chain(
    layer: Any, target: Any, method: str, factors: Sequence[np.ndarray]
) -> tuple[tuple[int, ...], list[Any]]:
    """The ranks of canonical factors, and built sublayers that hold them."""
    ranks = _ranks_of(layer, method, factors)
    chain = target.chain(layer, method, ranks)
    scope, _, name = (layer.path or layer.name).rpartition("/")
    with keras.name_scope(name, override_parent=scope):
        build_chain(chain, (layer.get_build_config() or {}).get("input_shape"))
    variables = [factor_variable(factor) for factor in chain]
    arrays = _fitting(layer, method, factors, variables)
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return ranks, chain


def _ranks_of(
    layer: Any, method: str, factors: Sequence[np.ndarray]
) -> tuple[int, ...]:
    count = 3 if method in ("tucker2", "cp") else 2
    if len(factors) != count or any(np.ndim(f) < 2 for f in factors):
        raise SqueezeError(
            f"Expected {count} kernels as factors of {layer.name!r} for "
            f"method {method!r}. Received: shapes "
            f"{[np.shape(factor) for factor in factors]}"
        )
    ranks = [int(np.shape(factor)[-1]) for factor in factors[:-1]]
    return tuple(ranks if method == "tucker2" else ranks[:1])


def _fitting(
    layer: Any,
    method: str,
    factors: Sequence[np.ndarray],
    variables: Sequence[Any],
) -> list[np.ndarray]:
    expected = [tuple(variable.shape) for variable in variables]
    with contextlib.suppress(ValueError):
        arrays = from_canonical(layer, method, factors)
        if [array.shape for array in arrays] == expected:
            return arrays
    raise SqueezeError(
        f"Expected factors for kernels of the shapes {expected} of "
        f"{layer.name!r} (method {method!r}). Received: shapes "
        f"{[np.shape(factor) for factor in factors]}"
    )

"""What a config does not say: layers of a file that are of another class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from keras_squeeze.artifact import TensorRecord
from keras_squeeze.errors import ModelMismatchError
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.saving.assigning import (
    match_layers,
    match_variables,
    without_layers,
)
from keras_squeeze.surgery.layer_tree import named_variables, walk_layers
from keras_squeeze.surgery.low_rank_structure import (
    factor_shapes,
    restore_low_rank_layers,
)
from keras_squeeze.surgery.quantized_structure import restore_quantized_layers

T = TypeVar("T")
Specs = Sequence[Mapping[str, Any]]


def restore_structure(
    model: Any,
    tensors: Mapping[str, TensorRecord],
    description: Mapping[str, Any],
    where: str,
) -> None:
    """Makes layers of low rank and quantized as a file has them, in place.

    Args:
        model: A built `keras.Model`.
        tensors: Mapping of path to `TensorRecord`, in file order.
        description: Mapping that may have `low_rank_layers` and
            `quantized_layers`.
        where: String. The file, for messages.

    Raises:
        ModelMismatchError: If the file does not fit the model; the model is
            unchanged then.
    """
    low_rank = description.get("low_rank_layers") or []
    quantized = description.get("quantized_layers") or []
    if not low_rank and not quantized:
        return
    low_rank, quantized = _live(model, tensors, low_rank, quantized, where)
    restore_low_rank_layers(model, low_rank)
    restore_quantized_layers(model, quantized)


def _live(
    model: Any,
    tensors: Mapping[str, TensorRecord],
    low_rank: Specs,
    quantized: Specs,
    where: str,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The specs with the model's paths; finds first what does not match."""
    chains = [str(spec["path"]) for spec in low_rank]
    layers = [str(spec["path"]) for spec in quantized]
    variables = _folded(named_variables(model), _low_rank_paths(model))
    stored = _folded(tensors, chains)
    names = match_layers(variables, stored)
    special = [*chains, *(p for p in layers if _chain_of(p, chains) == p)]
    live = [names.get(path, path) for path in special]
    match_variables(
        {path: variables[path] for path in without_layers(variables, live)},
        {path: stored[path] for path in without_layers(stored, special)},
        where,
    )
    coded = {_chain_of(path, chains) for path in layers}
    found = dict(walk_layers(model))
    for spec in low_rank:
        path = str(spec["path"])
        layer = found.get(names.get(path, path))
        if path not in coded and layer is not None:
            _check_factors(layer, spec, stored, where)
    return (
        [_renamed(spec, chains, names) for spec in low_rank],
        [_renamed(spec, chains, names) for spec in quantized],
    )


def _low_rank_paths(model: Any) -> list[str]:
    return [
        path
        for path, layer in walk_layers(model)
        if isinstance(layer, LowRankLayer)
    ]


def _chain_of(path: str, chains: Iterable[str]) -> str:
    """The low-rank layer that a layer is a factor of, else the layer."""
    inside = (chain for chain in chains if path.startswith(f"{chain}/"))
    return next(inside, path)


def _folded(named: Mapping[str, T], chains: Iterable[str]) -> dict[str, T]:
    """Variables of factors as if they were of the low-rank layer itself."""
    folded = {}
    for path, value in named.items():
        layer = path.rpartition("/")[0]
        chain = _chain_of(layer, chains)
        name = path.removeprefix(f"{chain}/").replace("/", ".")
        folded[f"{chain}/{name}" if layer else path] = value
    return folded


def _renamed(
    spec: Mapping[str, Any], chains: Iterable[str], names: Mapping[str, str]
) -> dict[str, Any]:
    path = str(spec["path"])
    chain = _chain_of(path, chains)
    return {
        **spec,
        "path": names.get(chain, chain) + path.removeprefix(chain),
    }


def _check_factors(
    layer: Any,
    spec: Mapping[str, Any],
    stored: Mapping[str, TensorRecord],
    where: str,
) -> None:
    if isinstance(layer, LowRankLayer):
        return
    expected = factor_shapes(layer, spec)
    if getattr(layer, "bias", None) is not None:
        expected.append(tuple(layer.bias.shape))
    path = str(spec["path"])
    received = [
        tensor.shape
        for name, tensor in stored.items()
        if name.rpartition("/")[0] == path
    ]
    if received != expected:
        raise ModelMismatchError(
            f"Expected the tensors of {path!r} of {where!r} to have the "
            f"shapes {expected}. Received: {received}"
        )

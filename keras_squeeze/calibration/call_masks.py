"""Which positions of a layer's inputs Keras masks, where tensors forgot it.

Keras notes a mask on the tensor that it belongs to, and a layer that supports
masking hands it on. Within a layer the note is lost: steps of time are cut
out, attention takes the masks off, and a sum of two tensors has none.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras.src.backend import get_keras_mask
from numpy.typing import NDArray

from keras_squeeze.shrinking.tracing import graph_of
from keras_squeeze.surgery.layer_tree import walk_layers

Mask = NDArray[np.bool_] | None

_ATTENTION = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)
#: Which argument of an attention layer its projections read.
_PROJECTIONS = {
    "_query_dense": "query",
    "_gate_dense": "query",
    "_key_dense": "key",
    "_value_dense": "value",
    "_output_dense": "query",
}


def unmasked(array: NDArray[Any], mask: Mask, inner: int = 1) -> NDArray[Any]:
    """The positions of an array that are not masked, one after the other.

    Args:
        array: Array of shape `(*positions, *values)`.
        mask: Optional boolean array; one that does not have the leading axes
            of the array belongs to something else, and nothing is left out.
        inner: Integer. How many axes of values there are at least. Defaults
            to `1`.

    Returns:
        The array itself, or one whose first axis stands for the axes of the
        mask.

    Example:
    >>> unmasked(np.array([[[1], [2]]]), np.array([[True, False]]))
    array([[1]])
    """
    if mask is None or mask.ndim > array.ndim - inner:
        return array
    return array[mask] if mask.shape == array.shape[: mask.ndim] else array


def mask_of(tensor: Any) -> Mask:
    """The mask that Keras noted on a tensor.

    Args:
        tensor: A tensor, or a structure of which the first one counts.

    Returns:
        Boolean array or `None`.
    """
    flat = keras.tree.flatten(tensor)
    return _to_numpy(get_keras_mask(flat[0])) if flat else None


def _to_numpy(mask: Any) -> Mask:
    flat = [part for part in keras.tree.flatten(mask) if part is not None]
    if not flat:
        return None
    return np.asarray(keras.ops.convert_to_numpy(flat[0])).astype(bool)


class CallMasks:
    """Follows masks into layers, while a model runs."""

    def __init__(self) -> None:
        self._inherited: dict[int, Mask] = {}
        self._steps: dict[int, Iterator[NDArray[np.bool_]]] = {}

    def of(
        self, layer: Any, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Mask:
        """The mask of the inputs of a call.

        Args:
            layer: The layer.
            args: Tuple of the positional arguments of its `call`.
            keywords: Dictionary of its keyword arguments.

        Returns:
            Boolean array or `None`.
        """
        mask = _to_numpy(keywords.get("mask"))
        if mask is None:
            mask = mask_of([*args, *keywords.values()])
        return self._inherited.get(id(layer)) if mask is None else mask

    def followers(self, root: Any) -> Iterator[tuple[Any, Callable[..., None]]]:
        """What has to be told of the calls of the layers around others.

        Args:
            root: The layer or model that is run.

        Yields:
            Pairs of a layer and a callable for the arguments of its `call`,
            outer layers first.
        """
        for _, layer in walk_layers(root):
            inner = [child for _, child in walk_layers(layer)][1:]
            if not inner:
                continue
            step = _step_layer(layer)
            if step is not None:
                within = [child for _, child in walk_layers(step)]
                yield layer, functools.partial(self._begin_steps, layer)
                yield step, functools.partial(self._step, layer, within)
            elif isinstance(layer, _ATTENTION):
                yield layer, functools.partial(self._attend, layer)
            elif layer.supports_masking and graph_of(layer) is None:
                yield layer, functools.partial(self._pass_on, layer, inner)

    def _pass_on(
        self, layer: Any, inner: Iterable[Any], *args: Any, **keywords: Any
    ) -> None:
        mask = self.of(layer, args, keywords)
        self._inherited.update((id(child), mask) for child in inner)

    def _begin_steps(self, layer: Any, *args: Any, **keywords: Any) -> None:
        mask = _to_numpy(_arguments(layer, args, keywords).get("mask"))
        if mask is None and isinstance(layer, keras.layers.TimeDistributed):
            mask = self._inherited.get(id(layer))
        self._steps.pop(id(layer), None)
        if mask is not None:
            columns = mask.reshape(mask.shape[:2]).T
            backwards = getattr(layer, "go_backwards", False)
            self._steps[id(layer)] = iter(
                columns[::-1] if backwards else columns
            )

    def _step(
        self, layer: Any, within: Iterable[Any], *args: Any, **keywords: Any
    ) -> None:
        mask = next(self._steps.get(id(layer), iter(())), None)
        self._inherited.update((id(child), mask) for child in within)

    def _attend(self, layer: Any, *args: Any, **keywords: Any) -> None:
        given = _arguments(layer, args, keywords)
        masks = {"query": self._argument_mask(given, "query")}
        if masks["query"] is None:
            masks["query"] = self._inherited.get(id(layer))
        for name, other in (("value", "query"), ("key", "value")):
            masks[name] = self._argument_mask(given, name)
            same = given.get(name) is None or given[name] is given.get(other)
            if masks[name] is None and same:
                masks[name] = masks[other]
        for attribute, name in _PROJECTIONS.items():
            projection = getattr(layer, attribute, None)
            if projection is not None:
                self._inherited[id(projection)] = masks[name]

    def _argument_mask(self, given: dict[str, Any], name: str) -> Mask:
        mask = _to_numpy(given.get(f"{name}_mask"))
        return mask_of(given.get(name)) if mask is None else mask


def _step_layer(layer: Any) -> Any | None:
    """The layer that another one calls once for each step of time."""
    if isinstance(layer, keras.layers.RNN):
        return layer.cell
    if isinstance(layer, keras.layers.TimeDistributed):
        return layer.layer
    return None


def _arguments(
    layer: Any, args: tuple[Any, ...], keywords: dict[str, Any]
) -> dict[str, Any]:
    signature = inspect.signature(type(layer).call)
    return signature.bind_partial(layer, *args, **keywords).arguments

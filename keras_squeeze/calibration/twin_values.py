"""The values that a model had before it was quantized, beside the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.surgery.layer_tree import to_numpy, walk_layers

_Values = list[tuple[Any, NDArray[Any]]]


class TwinValues:
    """A model and the one that it was, in one object.

    Layers that are to change are kept first. While the twin is shown they
    hold the values that they had then.

    Example:
    >>> import keras
    >>> layer = keras.layers.Dense(1, kernel_initializer="ones")
    >>> layer.build((None, 1))
    >>> twin = TwinValues()
    >>> twin.keep(layer)
    >>> _ = layer.kernel.assign([[2.0]])
    >>> with twin.shown(layer):
    ...     float(layer.kernel[0, 0])
    1.0
    >>> float(layer.kernel[0, 0])
    2.0
    """

    def __init__(self) -> None:
        self._kept: dict[int, _Values] = {}

    def keep(self, layer: Any) -> None:
        """Notes the values of a layer's own variables.

        Args:
            layer: A built layer. One that was kept before is passed over.
        """
        if id(layer) not in self._kept:
            own = (*layer._trainable_variables, *layer._non_trainable_variables)
            self._kept[id(layer)] = _values(own)

    @contextmanager
    def shown(self, root: Any) -> Iterator[None]:
        """While open, the layers below one have the values that were kept.

        Args:
            root: A layer or model, or an operation that is neither.

        Yields:
            Nothing.
        """
        below = walk_layers(root) if hasattr(root, "_flatten_layers") else ()
        before = [
            pair for _, layer in below for pair in self._kept.get(id(layer), ())
        ]
        after = _values(variable for variable, _ in before)
        _assign(before)
        try:
            yield
        finally:
            _assign(after)


def _values(variables: Any) -> _Values:
    return [(variable, np.array(to_numpy(variable))) for variable in variables]


def _assign(values: _Values) -> None:
    for variable, value in values:
        variable.assign(value)

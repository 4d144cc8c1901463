"""Variables of a built layer are taken away, or handed to another layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


@contextlib.contextmanager
def unlocked(*layers: Any) -> Iterator[None]:
    """Lets built layers take new variables and sublayers for a while.

    Args:
        *layers: Keras layers; those that were locked are locked again.
    """
    locked = [layer for layer in layers if layer._tracker.locked]
    for layer in locked:
        layer._tracker.unlock()
    try:
        yield
    finally:
        for layer in locked:
            layer._tracker.lock()


def drop_variable(layer: Any, attribute: str) -> None:
    """Deletes the attribute that holds a variable, and its tracking.

    Args:
        layer: A Keras layer.
        attribute: String. The attribute's name.
    """
    # What `del` does, less a garbage collection for every layer.
    layer._untrack_variable(layer.__dict__[attribute])
    super(keras.layers.Layer, layer).__delattr__(attribute)


def adopt_bias(source: Any, target: Any) -> None:
    """Makes a layer hold another one's bias variable in place of its own.

    Whether the variable is trained stays as it is, and so does what
    `source.trainable` would do to it.

    Args:
        source: Keras layer with a `bias`; it still holds it afterwards.
        target: Built and unlocked Keras layer of the same bias shape.
    """
    bias = source.bias
    trainable = bias.trainable
    # The list that a variable is tracked in follows the flag.
    bias.trainable = any(v is bias for v in source._trainable_variables)
    drop_variable(target, "bias")
    target.bias = bias
    bias.trainable = trainable

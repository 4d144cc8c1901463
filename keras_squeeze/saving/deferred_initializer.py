"""Initializers that do not draw numbers which a file replaces at once.

Random numbers for every weight are most of what Keras does to build a large
model. While a model is built from a file, the random initializers of Keras'
own layers are wrapped: they give zeros and become themselves again afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_squeeze.surgery.layer_tree import walk_layers

_PACKAGE = "keras_squeeze"
_NAME = f"{_PACKAGE}>DeferredInitializer"
# Modules of the classes that are known to keep initializers as attributes.
_STOCK = ("keras", "keras.layers", "keras.src.layers", "keras.models")
_RANDOM = frozenset(
    {
        "GlorotNormal",
        "GlorotUniform",
        "HeNormal",
        "HeUniform",
        "LecunNormal",
        "LecunUniform",
        "Orthogonal",
        "OrthogonalInitializer",
        "RandomNormal",
        "RandomUniform",
        "TruncatedNormal",
        "VarianceScaling",
    }
)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class DeferredInitializer(keras.initializers.Initializer):
    """Zeros now; `initializer` is what the layer shall keep.

    Args:
        initializer: An initializer, or its serialized form.
    """

    def __init__(self, initializer: Any) -> None:
        if isinstance(initializer, dict):
            initializer = keras.saving.deserialize_keras_object(initializer)
        self.initializer = initializer

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns zeros of that shape."""
        return keras.ops.zeros(shape, dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        serialize = keras.saving.serialize_keras_object
        return {"initializer": serialize(self.initializer)}


def defer_initializers(config: Any, stock: bool = False) -> Any:
    """A copy of a model's config in which random initializers are wrapped.

    Args:
        config: JSON value, as Keras serializes models.
        stock: Boolean. Whether it belongs to one of Keras' own classes: only
            of those is known where they keep their initializers. Defaults to
            `False`.

    Returns:
        A new JSON value; the leaves are shared.
    """
    if isinstance(config, list):
        return [defer_initializers(item, stock) for item in config]
    if not isinstance(config, dict):
        return config
    if stock and _is_random(config):
        return {
            "module": "keras_squeeze.saving.deferred_initializer",
            "class_name": DeferredInitializer.__name__,
            "config": {"initializer": config},
            "registered_name": _NAME,
        }
    if "class_name" in config:
        stock = config.get("module") in _STOCK
    return {k: defer_initializers(v, stock) for k, v in config.items()}


def restore_initializers(model: Any) -> None:
    """Gives the layers of a model the initializers that were wrapped.

    Args:
        model: A built `keras.Model`.
    """
    for _, layer in walk_layers(model):
        for name, value in list(vars(layer).items()):
            if isinstance(value, DeferredInitializer):
                setattr(layer, name, value.initializer)


def _is_random(config: dict[str, Any]) -> bool:
    return (
        config.get("class_name") in _RANDOM
        and config.get("module") == "keras.initializers"
        and not config.get("registered_name")
    )

"""Model <-> JSON-ready config, the same bytes for the same model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras.src.saving.serialization_lib import (
    ObjectSharingScope,
    SafeModeScope,
)

from keras_squeeze.artifact.settled_config import settle_config
from keras_squeeze.errors import (
    ModelMismatchError,
    SqueezeError,
    UnsupportedModelError,
)
from keras_squeeze.saving.config_policy import check_config
from keras_squeeze.saving.deferred_initializer import (
    defer_initializers,
    restore_initializers,
)
from keras_squeeze.surgery.layer_tree import walk_layers


def describe_model(model: Any, keep: Sequence[str] = ()) -> dict[str, Any]:
    """The model's class, name and, where Keras can rebuild it, its config.

    Args:
        model: A built `keras.Model`.
        keep: Sequence of strings, as `scrubbing.KEEP` lists them: what else
            than the model itself stays in the config. Defaults to `()`.

    Returns:
        Dictionary with `class_name`, `name` and `config`, which is `None` for
        a model whose class has no usable `get_config`.

    Raises:
        UnsupportedModelError: If a layer holds state that is neither a
            variable nor in its config.
    """
    check_assets(model)
    return {
        "class_name": type(model).__name__,
        "name": model.name,
        "config": _serialize(model, keep),
    }


def check_assets(model: Any) -> None:
    """Refuses lookup layers whose vocabulary is not in their config."""
    for path, layer in walk_layers(model):
        vocabulary = getattr(layer, "get_vocabulary", None)
        if vocabulary is None:
            continue
        if getattr(_lookup(layer), "input_vocabulary", None) is None:
            raise UnsupportedModelError(
                f"Expected the layer {path!r} to be made with its vocabulary, "
                f"{type(layer).__name__}(vocabulary=layer.get_vocabulary()), "
                "so that its config holds it; an adapted vocabulary is in no "
                f"variable. Received: {type(layer).__name__} without "
                "`vocabulary`"
            )


def _lookup(layer: Any) -> Any:
    return getattr(layer, "_lookup_layer", layer)


def _serialize(model: Any, keep: Sequence[str]) -> dict[str, Any] | None:
    try:
        with ObjectSharingScope():
            config = keras.saving.serialize_keras_object(model)
        return settle_config(config, keep)
    except (NotImplementedError, TypeError):
        return None


def build_model(
    description: Mapping[str, Any],
    where: str,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
) -> Any:
    """Builds the model that `describe_model` described, weights not yet set.

    Args:
        description: Mapping with `class_name` and `config`.
        where: String. The file, for messages.
        custom_objects: Optional mapping of names to classes or functions.
        safe_mode: Boolean. Whether to refuse configs that may run code.
            Defaults to `True`.

    Returns:
        A `keras.Model`.

    Raises:
        UnsafeArtifactError: If the config names what may not be named.
        ModelMismatchError: If Keras cannot build a model from it.
    """
    custom_objects = dict(custom_objects or {})
    config = description.get("config")
    if not isinstance(config, dict):
        raise ModelMismatchError(
            f"Expected {where!r} to hold the config of its model; build the "
            f"model yourself and call ks.load_weights(model, {where!r}). "
            f"Received: a {description.get('class_name')!r} without "
            "`get_config`"
        )
    if safe_mode:
        check_config(config, _is_custom(custom_objects), where)
    try:
        # A global switch must not undo what was asked for here.
        with ObjectSharingScope(), SafeModeScope(safe_mode):
            deferred = defer_initializers(config)
            model = _deserialize(deferred, custom_objects, safe_mode)
        restore_initializers(model)
        return model
    except SqueezeError:
        raise
    except Exception as error:
        raise ModelMismatchError(
            f"Expected Keras {keras.__version__} to build the model of "
            f"{where!r} from its config; classes of your own must be "
            "registered or passed in `custom_objects`. "
            f"Received: {type(error).__name__}: {error}"
        ) from error


def _deserialize(
    config: Mapping[str, Any], custom_objects: dict[str, Any], safe_mode: bool
) -> Any:
    def deserialize(config: Any) -> Any:
        return keras.saving.deserialize_keras_object(
            config, custom_objects=custom_objects, safe_mode=safe_mode
        )

    if (config.get("module"), config["class_name"]) != ("keras", "Sequential"):
        return deserialize(config)
    # Keras adds layers one by one and rebuilds the graph each time, which
    # takes most of the time it needs to load a model of ten layers.
    inner = config["config"]
    layers = [deserialize(layer) for layer in inner["layers"]]
    model = keras.Sequential(layers, name=inner["name"])
    if not model.built and inner.get("build_input_shape"):
        model.build(inner["build_input_shape"])
    if config.get("compile_config"):
        model.compile_from_config(config["compile_config"])
    return model


def _is_custom(custom_objects: Mapping[str, Any]) -> Any:
    registered = keras.saving.get_custom_objects()

    def is_custom(name: str) -> bool:
        return name in custom_objects or name in registered

    return is_custom

"""What a model's config may name: modelling objects, nothing that runs code.

Keras checks a config call site by call site while it builds the model. Here
the whole config is walked once before Keras sees any of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from keras_squeeze.errors import UnsafeArtifactError

# Classes that run code or open other files when they are built.
_REFUSED = frozenset(
    {
        "FlaxLayer",
        "JaxLayer",
        "Lambda",
        "SqueezedModel",
        "TFSMLayer",
        "TorchModuleWrapper",
        "__lambda__",
        "__typespec__",
    }
)
_LITERALS = frozenset(
    {
        "__bytes__",
        "__ellipsis__",
        "__keras_tensor__",
        "__numpy__",
        "__slice__",
        "__tensor__",
        "__tuple__",
    }
)
_MODULE = re.compile(
    r"keras(\.(activations|constraints|dtype_policies|initializers|layers"
    r"|losses|metrics|models|ops|optimizers(\.schedules)?|quantizers|random"
    r"|regularizers|src\.(activations|backend\.common\.dtype|constraints"
    r"|dtype_policies|initializers|layers|losses|metrics|models|ops"
    r"|optimizers|quantizers|random|regularizers)(\.\w+)*))?"
)
# A vocabulary given as a string is a path or an address that Keras would open.
_PATH_KEYS = frozenset({"vocabulary", "idf_weights"})


def check_config(
    config: Any, is_custom: Callable[[str], bool], where: str
) -> None:
    """Refuses a config that names anything but modelling objects.

    Args:
        config: The JSON value that Keras will deserialize.
        is_custom: Callable telling whether a name was registered with Keras
            or passed in `custom_objects` by the caller, who thereby trusts
            it.
        where: String. The file, for the message.

    Raises:
        UnsafeArtifactError: With the name that was refused.
    """
    for key, node in _nodes(config):
        if isinstance(node, dict) and "class_name" in node:
            _check_object(node, is_custom, where)
        elif key in _PATH_KEYS and isinstance(node, str):
            raise UnsafeArtifactError(
                f"Expected {key!r} in the config of {where!r} to be a list; a "
                f"string would be opened as a file. Received: {node!r}"
            )


def _nodes(config: Any) -> Iterator[tuple[Any, Any]]:
    stack: list[tuple[Any, Any]] = [(None, config)]
    while stack:
        key, node = stack.pop()
        yield key, node
        if isinstance(node, dict):
            stack.extend(node.items())
        elif isinstance(node, list | tuple):
            stack.extend((key, item) for item in node)


def _check_object(
    node: dict[str, Any], is_custom: Callable[[str], bool], where: str
) -> None:
    names = [node["class_name"], node.get("registered_name")]
    if node["class_name"] == "function":
        names += [node.get("config")]
    names = [name for name in names if isinstance(name, str)]
    if node["class_name"] != "SqueezedModel" and any(map(is_custom, names)):
        return
    if node["class_name"] in _LITERALS:
        return
    if node["class_name"] in _REFUSED:
        raise UnsafeArtifactError(
            f"Expected the config of {where!r} to hold no object that runs "
            "code; pass safe_mode=False only if you trust its author. "
            f"Received: {node['class_name']}"
        )
    if not _is_modelling_object(node):
        raise UnsafeArtifactError(
            f"Expected the config of {where!r} to name Keras' own modelling "
            "objects or classes that you registered or passed in "
            f"`custom_objects`. Received: {node.get('module')!r}, "
            f"{'.'.join(names[:2])!r}"
        )


def _is_modelling_object(node: dict[str, Any]) -> bool:
    module = node.get("module")
    if node["class_name"] == "function":
        # Keras names its own activations and losses without a module.
        return module == "builtins" or _is_keras_module(module)
    return _is_keras_module(module)


def _is_keras_module(module: Any) -> bool:
    return isinstance(module, str) and _MODULE.fullmatch(module) is not None

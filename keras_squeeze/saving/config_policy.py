"""What a model's config may name: modelling objects, nothing that runs code.

Keras checks a config call site by call site while it builds the model. Here
the whole config is walked once before Keras sees any of it, and every name is
looked up where Keras would look it up: among the caller's own classes, then
in what Keras has imported already. Nothing is imported for a config.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src import api_export

from keras_squeeze.errors import UnsafeArtifactError
from keras_squeeze.saving.config_limits import check_sizes

# Classes that run code or open other files when they are built, or are built
# of a stream of their own.
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
        "keras_squeeze>SqueezedModel",
    }
)
_QUANTIZATION_CONFIG = getattr(keras.quantizers, "QuantizationConfig", None)
_MODELLING = (
    keras.Operation,
    keras.constraints.Constraint,
    keras.dtype_policies.DTypePolicy,
    keras.dtype_policies.DTypePolicyMap,
    keras.initializers.Initializer,
    keras.layers.Layer,
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.quantizers.Quantizer,
    keras.random.SeedGenerator,
    keras.regularizers.Regularizer,
    *((_QUANTIZATION_CONFIG,) if _QUANTIZATION_CONFIG else ()),
)
_FUNCTIONS = frozenset(
    f"keras.{name}" for name in ("activations", "losses", "metrics", "ops")
)
_BUILTINS = "builtins"
# Of every such module: they make objects of configs that nobody walked.
_MAKERS = frozenset({"deserialize", "get", "serialize"})
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
_ARRAYS = frozenset({"__numpy__", "__tensor__"})
# NumPy would take any other string for a dtype of any size.
_ARRAY_DTYPES = frozenset(
    ["bfloat16", "bool", "float16", "float32", "float64", "string"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
# Strings that Keras, or a package for it, would open as a file or an address.
_PATH_KEYS = frozenset({"idf_weights", "merges", "vocabulary"})

IsCustom = Callable[[str], bool]


def check_config(config: Any, is_custom: IsCustom, where: str) -> None:
    """Refuses a config that names anything but modelling objects.

    Args:
        config: The JSON value that Keras will deserialize.
        is_custom: Callable telling whether a name was registered with Keras
            or passed in `custom_objects` by the caller, who thereby trusts
            it.
        where: String. The file, for the message.

    Raises:
        UnsafeArtifactError: With the name that was refused.
        LimitExceededError: If it asks for more than `config_limits` allows.
    """
    for key, node in _nodes(config):
        if key in _PATH_KEYS and _opens_a_file(node):
            raise UnsafeArtifactError(
                f"Expected {key!r} in the config of {where!r} to be a list; a "
                f"string would be opened as a file. Received: {node!r}"
            )
        check_sizes(key, node, where)
        if isinstance(node, dict) and "class_name" in node:
            _check_object(node, is_custom, where)


def _nodes(config: Any) -> Iterator[tuple[Any, Any]]:
    stack: list[tuple[Any, Any]] = [(None, config)]
    while stack:
        key, node = stack.pop()
        yield key, node
        if isinstance(node, dict):
            stack.extend(node.items())
        elif isinstance(node, list | tuple):
            stack.extend((None, item) for item in node)


def _opens_a_file(node: Any) -> bool:
    is_bytes = isinstance(node, dict) and node.get("class_name") == "__bytes__"
    return isinstance(node, str) or is_bytes


def _check_object(
    node: dict[str, Any], is_custom: IsCustom, where: str
) -> None:
    is_named = isinstance(node["class_name"], str)
    if is_named and (_is_trusted(node, is_custom) or _is_literal(node)):
        return
    found = _found(node) if is_named else None
    names = {str(node["class_name"]), str(node.get("registered_name"))}
    if isinstance(found, type):
        names.update(base.__name__ for base in found.__mro__)
    if names & _REFUSED:
        raise UnsafeArtifactError(
            f"Expected the config of {where!r} to hold no object that runs "
            "code; pass safe_mode=False only if you trust its author. "
            f"Received: {sorted(names & _REFUSED)[0]}"
        )
    is_class = isinstance(found, type) and issubclass(found, _MODELLING)
    if not is_class and not isinstance(found, types.FunctionType):
        raise UnsafeArtifactError(
            f"Expected the config of {where!r} to name Keras' own modelling "
            "objects or classes that you registered or passed in "
            "`custom_objects`. "
            f"Received: {node.get('module')!r}, {_name(node)!r}"
        )


def _name(node: dict[str, Any]) -> Any:
    is_function = node["class_name"] == "function"
    return node.get("config") if is_function else node["class_name"]


def _is_trusted(node: dict[str, Any], is_custom: IsCustom) -> bool:
    """Whether Keras finds an object that the caller registered or passed."""
    key = _name(node)
    if node["class_name"] != "function" and "registered_name" in node:
        key = node["registered_name"]
    # Without a module, Keras looks the class name up as its old files do.
    keys = [key] if "module" in node else [key, node["class_name"]]
    return not any(key in _REFUSED for key in map(str, keys)) and all(
        isinstance(key, str) and is_custom(key) for key in keys
    )


def _is_literal(node: dict[str, Any]) -> bool:
    if node["class_name"] in _ARRAYS:
        config = node.get("config")
        dtype = config.get("dtype") if isinstance(config, dict) else None
        return isinstance(dtype, str) and dtype in _ARRAY_DTYPES
    return node["class_name"] in _LITERALS


def _found(node: dict[str, Any]) -> Any:
    """What Keras finds under the names of a node, if it is imported."""
    module, name = node.get("module"), _name(node)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if node["class_name"] == "function":
        return _function(module, name)
    found = _symbol(f"{module}.{name}")
    if found is None and module.startswith("keras.src."):
        found = vars(sys.modules.get(module, object)).get(name)
    return None if isinstance(found, types.FunctionType) else found


def _function(module: str, name: str) -> Any:
    # Keras names its own activations and losses without a module.
    modules = _FUNCTIONS if module == _BUILTINS else {module} & _FUNCTIONS
    if name in _MAKERS:
        return None
    found = [_symbol(f"{candidate}.{name}") for candidate in sorted(modules)]
    functions = (f for f in found if isinstance(f, types.FunctionType))
    return next(functions, None)


def _symbol(name: str) -> Any:
    return api_export.get_symbol_from_name(name)

"""A model's config as it goes into a file: the same for the same model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_squeeze.artifact.scrubbing import scrub_config


def settle_config(
    config: Mapping[str, Any], keep: Sequence[str] = ()
) -> dict[str, Any]:
    """Takes from a config what differs from process to process.

    Args:
        config: Mapping, as Keras serialized a model.
        keep: Sequence of strings, one or more of `scrubbing.KEEP`: what else
            than the model itself stays. Defaults to `()`.

    Returns:
        Dictionary that is JSON-ready, and in which objects that are shared
        are numbered from zero.

    Raises:
        TypeError: If it is not JSON-ready.
        SqueezeError: If it names a file of this machine.
    """
    # A second reading settles tuples and NumPy scalars as JSON has them.
    settled = scrub_config(json.loads(json.dumps(config)), keep)
    shared: dict[Any, int] = {}
    for node in _dictionaries(settled):
        if _is_stateless(node):
            node.pop("shared_object_id", None)
        if "shared_object_id" in node:
            # Keras takes the object's address, another one in every process.
            number = shared.setdefault(node["shared_object_id"], len(shared))
            node["shared_object_id"] = number
    return dict(settled)


def _is_stateless(node: Mapping[str, Any]) -> bool:
    # Whether two layers share a policy or an initializer changes nothing.
    module = str(node.get("module"))
    return str(node.get("class_name")).endswith("DTypePolicy") or (
        module in ("keras.initializers", "keras.regularizers")
    )


def _dictionaries(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        yield config
    children = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict | list):
        for child in list(children):
            yield from _dictionaries(child)

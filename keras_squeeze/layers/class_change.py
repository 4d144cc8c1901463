"""A live layer becomes an instance of another class."""

from __future__ import annotations

import inspect
from typing import Any


def change_class(layer: Any, target: type) -> None:
    """Gives a built layer another class.

    Args:
        layer: A built Keras layer.
        target: The class: of the same bases in memory, as a subclass.
    """
    layer.__class__ = target
    # Keras binds these two to the class an object was made with.
    for name in ("build", "quantize"):
        layer.__dict__.pop(name, None)
    _take_call_signature(layer, target)


def _take_call_signature(layer: Any, target: Any) -> None:
    """What Keras notes of `call` when it makes a layer, noted anew.

    A model passes `training` to the layers that were seen to take it.
    """
    signature = inspect.signature(target.call.__get__(layer))
    names = [parameter.name for parameter in signature.parameters.values()]
    noted = {
        "_call_signature": signature,
        "call_signature_parameters": names,
        "_call_has_training_arg": "training" in names,
        "_call_has_mask_arg": "mask" in names,
        "_call_has_context_arg": {
            name: name in names for name in layer._call_context_args
        },
    }
    # Past Keras, which would track the list and the dictionary.
    layer.__dict__.update(noted)

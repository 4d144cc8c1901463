"""What layers are called with, while a model runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from keras_squeeze.calibration.kernel_listener import listening
from keras_squeeze.surgery.layer_tree import Kernel

Call = tuple[tuple[Any, ...], dict[str, Any]]
Calls = dict[int, list[Call]]


@contextmanager
def recording(root: Any, layers: Iterable[Any]) -> Iterator[Calls]:
    """While open, notes the arguments of each call of the layers.

    Only calls on values are of use: open it where the model runs eagerly.

    Args:
        root: The layer or model that is run.
        layers: Layers below it.

    Yields:
        Dictionary of the `id` of a layer to a list of pairs, the positional
        arguments and the keywords of its calls, in the order in which the
        layers are called first.
    """
    found: Calls = {}

    def note(kernel: Kernel, args: Any, keywords: Any) -> None:
        found.setdefault(id(kernel.layer), []).append((args, keywords))

    places = [Kernel(layer.name, layer, "", None) for layer in layers]
    with listening(root, places, note):
        yield found

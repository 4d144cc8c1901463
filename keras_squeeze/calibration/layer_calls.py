"""What layers are called with, while a model runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.call_masks import CallMasks
from keras_squeeze.masking.method_hook import listen, unlisten
from keras_squeeze.surgery.layer_tree import walk_layers


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer.

    Args:
        args: Tuple of the positional arguments of the layer's `call`.
        keywords: Dictionary of its keyword arguments.
        mask: Boolean array over the leading axes of the inputs, false for the
            positions that are to be passed over; `None` if all count.
            Defaults to `None`.
    """

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    mask: NDArray[np.bool_] | None = None

    @property
    def inputs(self) -> Any:
        """The first argument."""
        return self.args[0] if self.args else next(iter(self.keywords.values()))


Calls = dict[int, list[Call]]


@contextmanager
def listening(
    root: Any, layers: Iterable[Any], listener: Callable[[Any, Call], None]
) -> Iterator[None]:
    """While open, tells of each call of the layers.

    Recurrent layers call their cells step by step then, on values.

    Args:
        root: The layer or model that is run.
        layers: Layers below it, or itself.
        listener: Callable taking a layer and a `Call`.

    Yields:
        Nothing.
    """
    history = getattr(root, "history", None)
    masks = CallMasks()
    with ExitStack() as stack:

        def hook(layer: Any, tell: Callable[..., None]) -> None:
            listen(layer, "call", tell, history)
            stack.callback(unlisten, layer, "call", tell)

        # Masks first: a cell that is heard itself is told of its step then.
        for layer, follow in masks.followers(root):
            hook(layer, follow)
        for layer in {id(layer): layer for layer in layers}.values():
            hook(layer, _telling(listener, layer, masks))
        for _, layer in walk_layers(root):
            if isinstance(layer, keras.layers.RNN):
                stack.enter_context(_step_by_step(layer))
        yield


@contextmanager
def recording(root: Any, layers: Iterable[Any]) -> Iterator[Calls]:
    """While open, notes each call of the layers.

    Only calls on values are of use: open it where the model runs eagerly.

    Args:
        root: The layer or model that is run.
        layers: Layers below it, or itself.

    Yields:
        Dictionary of the `id` of a layer to a list of `Call`, in the order in
        which the layers are called first.
    """
    found: Calls = {}

    def note(layer: Any, call: Call) -> None:
        found.setdefault(id(layer), []).append(call)

    with listening(root, layers, note):
        yield found


def _telling(
    listener: Callable[[Any, Call], None], layer: Any, masks: CallMasks
) -> Callable[..., None]:
    def tell(*args: Any, **keywords: Any) -> None:
        mask = masks.of(layer, args, keywords)
        listener(layer, Call(args, keywords, mask))

    return tell


@contextmanager
def _step_by_step(layer: Any) -> Iterator[None]:
    """Keeps a recurrent layer from loops on symbols and from fused kernels."""
    wanted = {"unroll": True, "use_cudnn": False}
    if layer.go_backwards:
        # Unrolled, Keras zeroes the wrong steps: the mask is not reversed.
        wanted["zero_output_for_mask"] = False
    before = {k: vars(layer)[k] for k in wanted if k in vars(layer)}
    vars(layer).update({name: wanted[name] for name in before})
    try:
        yield
    finally:
        vars(layer).update(before)

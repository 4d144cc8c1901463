"""One call of one layer, as the rules see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.shrinking.channels import Channels, Ids, unknown
from keras_squeeze.shrinking.constants import (
    contract,
    evaluate,
    is_elementwise,
)
from keras_squeeze.shrinking.trace import (
    COMPANION,
    PRODUCER,
    READER,
    Fold,
    Trace,
    Use,
    Width,
)

Shape = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or of an operation of `keras.ops`.

    Args:
        trace: `Trace` that gathers what the rules find.
        layer: The layer or operation.
        path: String. Its path below the model.
        inputs: Tuple of `Channels`, one for each input tensor.
        shapes: Tuple of the shapes of the inputs, batch axis included.
        outputs: Tuple of the shapes of the outputs.
        tensors: Tuple of the symbolic inputs.
        arguments: Keras' record of the call's arguments.
        owner: The layer whose config stands in the graph, a wrapper perhaps.
        keys: Tuple of the keys that lead from there to the layer's config.
    """

    trace: Trace
    layer: Any
    path: str
    inputs: tuple[Channels, ...]
    shapes: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    tensors: tuple[Any, ...]
    arguments: Any
    owner: Any
    keys: tuple[str, ...] = ()

    def new(self, count: int) -> Ids:
        """Makes channels that depend on no other."""
        return self.trace.groups.new(count)

    def lock(self, ids: Ids, reason: str) -> None:
        """Forbids the removal of channels."""
        self.trace.groups.lock(ids, self.path, reason)

    def bind(self, variable: Any, axis: int, ids: Ids, role: str) -> None:
        """Says which channels index an axis of a variable."""
        self.trace.bind(variable, axis, ids, role)

    def value(self, variable: Any) -> NDArray[Any]:
        """The value of a variable, without what the removed channels made."""
        return self.trace.value(variable)

    def width(self, key: str, ids: Ids, name: str = "", **options: Any) -> None:
        """Notes that a number of the layer's config counts channels.

        Args:
            key: String. The name in the config.
            ids: Integer array.
            name: String that follows the layer's path, for layers that make
                several kinds of channels.
            **options: Further fields of `Width`.
        """
        path = f"{self.path}/{name}" if name else self.path
        keys = (*self.keys, key)
        self.trace.add_width(Width(self.owner, path, keys, ids, **options))

    def give_up(self, reason: str) -> list[Channels]:
        """Locks all that goes in and comes out.

        Args:
            reason: String.

        Returns:
            List of `Channels`, one for each output.
        """
        for channels in self.inputs:
            self.lock(channels.ids, reason)
        self.trace.opaque.append((self.layer, self.path, reason))
        return [self.locked(shape, reason) for shape in self.outputs]

    def locked(self, shape: Shape, reason: str, axis: int = -1) -> Channels:
        """Channels of a new tensor that cannot be removed."""
        size = shape[axis] if len(shape) >= -axis else None
        ids = self.new(size or 0)
        self.lock(ids, reason)
        return unknown(ids, axis)

    def expect(self, axis: int, index: int = 0) -> Channels:
        """The channels of an input, if they lie where the layer reads them.

        Args:
            axis: Negative integer.
            index: Integer. Which input. Defaults to `0`.

        Returns:
            `Channels` on `axis`; locked ones if the channels lie elsewhere.
        """
        channels, shape = self.inputs[index], self.shapes[index]
        if channels.axis == axis and shape[axis] == len(channels.ids):
            return channels
        reason = f"it works on axis {axis}, and the channels lie elsewhere"
        self.lock(channels.ids, reason)
        return self.locked(shape, reason, axis)

    def read(
        self,
        x: Channels,
        kernel: Any,
        axes: tuple[int, int],
        outputs: Ids,
        foldable: bool,
        bias: Any = None,
    ) -> Channels:
        """A kernel that mixes the channels of its input into new ones.

        Args:
            x: `Channels` of the input.
            kernel: `keras.Variable`.
            axes: The kernel's input and output axis.
            outputs: Integer array of the new channels.
            foldable: Boolean. Whether a constant input acts as a bias.
            bias: `keras.Variable` of shape `(outputs,)` or `None`.

        Returns:
            `Channels` of the output, before any activation.
        """
        self.bind(kernel, axes[0], x.ids, READER)
        self.bind(kernel, axes[1], outputs, PRODUCER)
        self.bind(bias, 0, outputs, COMPANION)
        constants, unread = contract(
            x.constants,
            self.value(kernel),
            axes,
            foldable,
            None if bias is None else self.value(bias),
        )
        keys = (*self.keys, "use_bias")
        fold = Fold(self.layer, self.owner, keys, kernel, *axes)
        self.use(x, unread, fold if foldable else None)
        return Channels(outputs, constants, x.axis)

    def use(
        self, x: Channels, unread: NDArray[np.bool_], fold: Fold | None = None
    ) -> None:
        """Notes that channels are mixed into others."""
        self.trace.uses.append(
            Use(self.path, self.layer, x.ids, x.constants, unread, fold)
        )

    def activated(
        self, x: Channels, activation: Callable[..., Any] | None
    ) -> Channels:
        """The channels after an activation.

        Args:
            x: `Channels`.
            activation: Callable or `None`.

        Returns:
            `Channels`.
        """
        if not is_elementwise(activation):
            name = getattr(activation, "__name__", type(activation).__name__)
            self.lock(x.ids, f"its activation {name!r} may mix channels")
            return unknown(x.ids, x.axis)
        if activation is None:
            return x
        return x.valued(evaluate(activation, x.constants))


def channel_axis(layer: Any, rank: int) -> int:
    """The axis of a layer's channels, counted from the last.

    Args:
        layer: A layer with `data_format`.
        rank: Integer. The rank of its input.

    Returns:
        Negative integer.
    """
    return -1 if layer.data_format == "channels_last" else 1 - rank

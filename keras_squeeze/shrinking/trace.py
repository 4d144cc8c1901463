"""What a walk through a model's graph finds out about its channels."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.shrinking.channels import ChannelGroups, Constants, Ids
from keras_squeeze.surgery.layer_tree import to_numpy

PRODUCER = "producer"
FILTER = "filter"
COMPANION = "companion"
READER = "reader"
FOLLOWER = "follower"


@dataclasses.dataclass(frozen=True)
class Binding:
    """An axis of a variable that is indexed by channels.

    Args:
        variable: The `keras.Variable`.
        axis: Integer from 0.
        ids: Integer array, as long as the axis.
        role: String. A `"producer"` makes the channels from others, a
            `"filter"` from themselves (a depthwise kernel), a `"companion"`
            (bias, beta) adds to them, a `"reader"` uses them, a `"follower"`
            does none of this.
    """

    variable: Any
    axis: int
    ids: Ids
    role: str


@dataclasses.dataclass(frozen=True)
class Width:
    """A number in a layer's config that counts channels.

    Args:
        layer: The layer in whose config the number stands.
        path: String. How users name these channels.
        keys: Tuple of the keys that lead to the number.
        ids: Integer array of the channels it counts.
        divisor: Integer, by which the count is divided.
        index: Optional integer, the place in a list.
        is_output: Boolean. Whether the layer makes these channels.
        trigger: Optional further channels whose removal makes the number
            worth writing.
    """

    layer: Any
    path: str
    keys: tuple[str, ...]
    ids: Ids
    divisor: int = 1
    index: int | None = None
    is_output: bool = False
    trigger: Ids | None = None


@dataclasses.dataclass(frozen=True)
class Fold:
    """Where the part of a constant input can be added: a layer's bias.

    Args:
        layer: The layer that reads.
        owner: The layer in whose config `keys` lead to `"use_bias"`.
        keys: Tuple of keys.
        kernel: The `keras.Variable` that reads.
        input_axis: Integer.
        output_axis: Integer.
    """

    layer: Any
    owner: Any
    keys: tuple[str, ...]
    kernel: Any
    input_axis: int
    output_axis: int


@dataclasses.dataclass(frozen=True)
class Use:
    """A place where channels are mixed into others.

    Args:
        path: String. The layer that reads.
        layer: That layer.
        ids: Integer array.
        constants: Float array as long, NaN where the value varies.
        unread: Boolean array as long, true where all weights are zero.
        fold: Optional `Fold`.
    """

    path: str
    layer: Any
    ids: Ids
    constants: Constants
    unread: NDArray[np.bool_]
    fold: Fold | None = None


class Trace:
    """The channels of a model and everything that depends on them.

    Args:
        removed: Optional boolean array indexed by channel id. Weights that
            make these channels are read as zero.
    """

    def __init__(self, removed: NDArray[np.bool_] | None = None) -> None:
        self.groups = ChannelGroups()
        self.bindings: list[Binding] = []
        self.widths: list[Width] = []
        self.uses: list[Use] = []
        self.rescaled: dict[int, tuple[Any, Ids]] = {}
        self.calls: collections.Counter[int] = collections.Counter()
        self.understood: set[int] = set()
        self.opaque: list[tuple[Any, str, str]] = []
        self._removed = removed
        self._bound: dict[tuple[int, int], Ids] = {}
        self._counted: dict[tuple[Any, ...], Ids] = {}

    def bind(self, variable: Any, axis: int, ids: Ids, role: str) -> None:
        """Says which channels index an axis of a variable.

        A variable that is used twice ties the channels of both uses.

        Args:
            variable: `keras.Variable` or `None`, which is ignored.
            axis: Integer, may be negative.
            ids: Integer array, as long as the axis.
            role: String.
        """
        if variable is None:
            return
        axis %= len(variable.shape)
        key = (id(variable), axis)
        if key in self._bound:
            self.groups.tie(self._bound[key], ids)
            return
        self._bound[key] = ids
        self.bindings.append(Binding(variable, axis, ids, role))

    def add_width(self, width: Width) -> None:
        """Notes a number that counts channels.

        Args:
            width: `Width`.
        """
        key = (id(width.layer), width.keys, width.index)
        if key in self._counted:
            self.groups.tie(self._counted[key], width.ids)
            return
        self._counted[key] = width.ids
        self.widths.append(width)

    def lock_opaque(self) -> None:
        """Locks channels whose weights a layer without a rule holds too."""
        for layer, path, reason in self.opaque:
            held = {id(v) for v in getattr(layer, "variables", ())}
            for binding in self.bindings:
                if id(binding.variable) in held:
                    self.groups.lock(binding.ids, path, reason)

    def value(self, variable: Any) -> NDArray[Any]:
        """The value of a variable, without what the removed channels made.

        Args:
            variable: `keras.Variable`.

        Returns:
            Float array.
        """
        array = to_numpy(variable)
        if not np.issubdtype(array.dtype, np.floating):
            array = array.astype(np.float32)
        if self._removed is None:
            return array
        bindings = [b for b in self.bindings if b.variable is variable]
        return zeroed(array, bindings, self._removed.take)


def zeroed(
    array: NDArray[Any], bindings: list[Binding], hit: Any
) -> NDArray[Any]:
    """An array without what it gives to some of the channels.

    Args:
        array: The value of a variable.
        bindings: The `Binding`s of the variable.
        hit: Callable, ids to boolean array.

    Returns:
        Array of the same shape, a copy where anything changed.
    """
    for binding in bindings:
        where = hit(binding.ids)
        if binding.role not in (PRODUCER, FILTER, COMPANION) or not where.any():
            continue
        array = array.copy()
        np.moveaxis(array, binding.axis, 0)[where] = 0
    return array

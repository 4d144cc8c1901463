"""Channels that must go together, and what is known of their values."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Constants = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Channels:
    """The channel axis of one tensor.

    Args:
        ids: Integer array of shape `(channels,)`. Channels with the same id
            stand or fall together; a channel may appear several times.
        constants: Float array of shape `(channels,)`: the value that the
            channel has at every place for every input, NaN if it varies.
        axis: Negative integer, counted from the last axis of the tensor.
    """

    ids: Ids
    constants: Constants
    axis: int = -1

    def take(self, positions: Any, axis: int | None = None) -> Channels:
        """The channels at `positions`, in that order.

        Args:
            positions: Integer array.
            axis: Negative integer, where they lie now. Defaults to the same.

        Returns:
            `Channels`.
        """
        return Channels(
            self.ids[positions],
            self.constants[positions],
            self.axis if axis is None else axis,
        )

    def valued(self, constants: Any) -> Channels:
        """The same channels with other constants.

        Args:
            constants: Float array of shape `(channels,)`.

        Returns:
            `Channels`.
        """
        return dataclasses.replace(
            self, constants=np.asarray(constants, np.float64)
        )


def unknown(ids: Ids, axis: int = -1) -> Channels:
    """Channels of which no value is known.

    Args:
        ids: Integer array of shape `(channels,)`.
        axis: Negative integer. Defaults to `-1`.

    Returns:
        `Channels` whose constants are NaN.

    Example:
    >>> unknown(np.array([4, 5])).constants
    array([nan, nan])
    """
    return Channels(ids, np.full(len(ids), np.nan), axis)


class ChannelGroups:
    """Sets of channels of which either all go or none (union-find).

    Example:
    >>> groups = ChannelGroups()
    >>> first, second = groups.new(2), groups.new(2)
    >>> groups.tie(first, second)
    >>> groups.roots().tolist()
    [0, 1, 0, 1]
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._locks: list[tuple[int, str, str]] = []

    def __len__(self) -> int:
        return len(self._parents)

    def new(self, count: int) -> Ids:
        """Makes channels that depend on no other.

        Args:
            count: Integer.

        Returns:
            Integer array of new ids, of shape `(count,)`.
        """
        start = len(self._parents)
        ids = range(start, start + count)
        self._parents.extend(ids)
        return np.arange(start, start + count, dtype=np.int64)

    def tie(self, first: Ids, second: Ids) -> None:
        """Makes each channel of `first` go with its fellow of `second`.

        Args:
            first: Integer array of ids.
            second: Integer array of ids, of the same length.
        """
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            a, b = self._find(a), self._find(b)
            # The older root stays, so that equal graphs have equal roots.
            self._parents[max(a, b)] = min(a, b)

    def lock(self, ids: Ids, path: str, reason: str) -> None:
        """Forbids the removal of channels.

        Args:
            ids: Integer array of ids.
            path: String. The layer that forbids it.
            reason: String.
        """
        self._locks.extend((i, path, reason) for i in set(ids.tolist()))

    def roots(self) -> Ids:
        """One representative for each channel: its group's oldest member.

        Returns:
            Integer array, indexed by id.
        """
        return np.array(
            [self._find(i) for i in range(len(self._parents))], np.int64
        )

    def locks(self) -> dict[int, tuple[str, str]]:
        """The locked groups.

        Returns:
            Dictionary of root to the layer and the reason of its first lock.
        """
        found: dict[int, tuple[str, str]] = {}
        for channel, path, reason in self._locks:
            found.setdefault(self._find(channel), (path, reason))
        return found

    def _find(self, channel: int) -> int:
        parents = self._parents
        while parents[channel] != channel:
            parents[channel] = parents[parents[channel]]
            channel = parents[channel]
        return channel

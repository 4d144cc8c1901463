"""How a tensor lies in the chains of the trellis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.kernel_geometry import KernelGeometry
from keras_squeeze.codecs.trellis import Trellis, next_states

#: A tensor is cut into so many chains at most.
LARGEST_CHAINS = 32

#: The search advances so many chains at once; columns come in multiples.
LANES = 16

# Weights that are searched at once: what a search holds besides them is several
# times as large. Ends of segments cost a chain a fraction of a bit.
_SEGMENT = 1 << 21

# Every chain loses a few bits at its start: shorter ones would not pay.
_SHORTEST_CHAIN = 2048


def chain_count(geometry: KernelGeometry) -> int:
    """How many chains a tensor is cut into.

    Args:
        geometry: `KernelGeometry`.

    Returns:
        Integer, a power of two up to 32, no more than there are channels.

    Example:
    >>> from keras_squeeze.codecs.kernel_geometry import geometry_of
    >>> chain_count(geometry_of((3, 3, 64, 64), "convolution"))
    16
    """
    wanted = min(geometry.size // _SHORTEST_CHAIN, geometry.channels)
    return 1 << min(max(1, wanted), LARGEST_CHAINS).bit_length() - 1


class ChainOrder:
    """How weights lie in the chains of the machine, a column a chain.

    Args:
        shape: Tuple `(channels, taps, inputs)`.
        chains: Integer.
    """

    def __init__(self, shape: tuple[int, ...], chains: int) -> None:
        channels, taps, inputs = shape
        self._shape = shape
        self._length = taps * inputs
        self._chains = chains
        self._rounds = -(-channels // self._chains)
        self._columns = -(-self._chains // LANES) * LANES

    def to_chains(
        self, canonical: NDArray[Any], padding: int = 0
    ) -> NDArray[Any]:
        """Arranges an array of the canonical shape.

        Args:
            canonical: Array of the shape.
            padding: Integer, what stands where a chain has ended. Defaults to
                `0`.

        Returns:
            Array of shape `(steps, columns)`.
        """
        shape = (self._rounds, self._chains, self._length)
        padded = np.full(
            (self._rounds * self._chains, self._length),
            padding,
            canonical.dtype,
        )
        padded[: self._shape[0]] = canonical.reshape(-1, self._length)
        chains = np.full(
            (self._rounds, self._length, self._columns),
            padding,
            canonical.dtype,
        )
        chains[:, :, : self._chains] = padded.reshape(shape).transpose(0, 2, 1)
        return chains.reshape(-1, self._columns)

    def from_chains(self, chains: NDArray[Any]) -> NDArray[Any]:
        """Undoes `to_chains`.

        Args:
            chains: Array of shape `(steps, columns)`.

        Returns:
            Array of the canonical shape.
        """
        shape = (self._rounds, self._length, self._columns)
        parts = chains.reshape(shape)[:, :, : self._chains].transpose(0, 2, 1)
        channels = parts.reshape(-1, self._length)[: self._shape[0]]
        return np.ascontiguousarray(channels).reshape(self._shape)


def segments(shape: tuple[int, ...], chains: int) -> list[slice]:
    """Channels that are searched one lot after the other.

    Whole rounds of the chains, so that each chain goes on in a lot where it
    ended in the one before.

    Args:
        shape: Tuple `(channels, taps, inputs)`.
        chains: Integer.

    Returns:
        List of slices of channels; one for all but large tensors.

    Example:
    >>> segments((64, 1, 1 << 17), chains=32)
    [slice(0, 32, None), slice(32, 64, None)]
    """
    channels, taps, inputs = shape
    a_round = chains * taps * inputs
    step = max(1, _SEGMENT // max(1, a_round)) * chains
    starts = range(0, channels, step)
    return [slice(start, min(start + step, channels)) for start in starts]


def follow_machine(
    codes: NDArray[np.int32], trellis: Trellis
) -> NDArray[np.uint8]:
    """The grids on which the codes of a trellis lie.

    Args:
        codes: int32 array of shape `(channels, taps, inputs)`.
        trellis: `Trellis`.

    Returns:
        uint8 array of the same shape, 0 or 1.
    """
    machine = next_states(trellis.states)
    found = np.empty(codes.shape, np.uint8)
    state: NDArray[np.uint8] | None = None
    for lot in segments(codes.shape, trellis.chains):
        order = ChainOrder(codes[lot].shape, trellis.chains)
        chains = np.abs(order.to_chains(codes[lot]))
        if state is None:
            state = np.zeros(chains.shape[1], np.uint8)
        grids = np.empty(chains.shape, np.uint8)
        for step, row in enumerate(chains):
            grids[step] = state & 1
            state = machine[state, (row + grids[step] >> 1) & 1]
        found[lot] = order.from_chains(grids)
    return found

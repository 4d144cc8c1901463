"""Error feedback: later inputs make up for the errors of earlier ones."""

from __future__ import annotations

import abc

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.kernel_geometry import KernelGeometry
from keras_squeeze.quantizers.rate_distortion_choice import cheapest_codes
from keras_squeeze.quantizers.trellis_chains import LANES
from keras_squeeze.quantizers.trellis_search import SearchProblem, search_path

# Inputs whose corrections are applied to all later ones in one product.
_BLOCK = 64


class RowChooser(abc.ABC):
    """Chooses the codes of one input after the other."""

    @abc.abstractmethod
    def choose(
        self,
        place: int,
        wanted: NDArray[np.float32],
        weight: np.float32,
        classes: NDArray[np.uint8],
    ) -> NDArray[np.int32]:
        """Chooses the codes of one input.

        Args:
            place: Integer, the place of the input in the order.
            wanted: float32 array of shape `(channels,)`, in steps.
            weight: Float, the factor of the squared error.
            classes: uint8 array of shape `(channels,)`, rows of the rates.

        Returns:
            int32 array of shape `(channels,)`.
        """


class ScalarRows(RowChooser):
    """Every code by itself.

    Args:
        costs: float32 array of shape `(classes, levels)`.
    """

    def __init__(self, costs: NDArray[np.float32]) -> None:
        self._costs = costs

    def choose(
        self,
        place: int,
        wanted: NDArray[np.float32],
        weight: np.float32,
        classes: NDArray[np.uint8],
    ) -> NDArray[np.int32]:
        """See `RowChooser`; rows do not depend on each other."""
        importance = np.full(wanted.shape, weight)
        return cheapest_codes(wanted, importance, classes, self._costs)


class TrellisRows(RowChooser):
    """The codes of an input along the machine, each chain where it ended.

    Args:
        costs: float32 array of shape `(classes, 2, levels)`.
        states: Integer, the states of the machine.
        chains: Integer.
        taps: Integer, how many rows in a row belong to one chain.
    """

    def __init__(
        self, costs: NDArray[np.float32], states: int, chains: int, taps: int
    ) -> None:
        self._costs = costs
        self._states = states
        self._taps = taps
        self._chain_states = np.zeros(chains, np.uint8)
        self.grids: dict[int, NDArray[np.uint8]] = {}

    def choose(
        self,
        place: int,
        wanted: NDArray[np.float32],
        weight: np.float32,
        classes: NDArray[np.uint8],
    ) -> NDArray[np.int32]:
        """See `RowChooser`; places come in ascending order."""
        chain = place // self._taps % len(self._chain_states)
        start = np.zeros(LANES, np.uint8)
        start[0] = self._chain_states[chain]
        shape = (len(wanted), LANES)
        values = np.zeros(shape, np.float32)
        values[:, 0] = wanted
        rows = np.zeros(shape, np.uint8)
        rows[:, 0] = classes
        problem = SearchProblem(
            values, np.full(shape, weight), rows, self._costs
        )
        path = search_path(problem, self._states, start)
        self._chain_states[chain] = path.states[0]
        self.grids[place] = path.grids[:, 0]
        return path.codes[:, 0]


def chain_order(geometry: KernelGeometry) -> NDArray[np.intp]:
    """Rows of a flattened kernel in the order of the chains.

    Args:
        geometry: `KernelGeometry` whose channels are the kernel's inputs.

    Returns:
        Array of shape `(channels * taps,)`.
    """
    rows = np.arange(geometry.channels * geometry.taps)
    return rows.reshape(geometry.taps, geometry.channels).T.reshape(-1)


def feed_back(
    target: NDArray[np.float32],
    correction: NDArray[np.float64],
    classes: NDArray[np.uint8],
    chooser: RowChooser,
) -> NDArray[np.int32]:
    """Quantizes all inputs, each after the corrections of those before.

    Args:
        target: float32 array of shape `(inputs, channels)`, in steps.
        correction: float64 array as `GramMatrix.corrections` returns it.
        classes: uint8 array of the shape of `target`.
        chooser: `RowChooser`.

    Returns:
        int32 array of the shape of `target`.
    """
    rest = target.astype(np.float64)
    pruned = target == 0
    limit = 2.0 * float(np.abs(target).max(initial=0.0)) + 2.0
    weights = error_weights(correction)
    codes = np.zeros(target.shape, np.int32)
    for start in range(0, len(target), _BLOCK):
        stop = min(start + _BLOCK, len(target))
        errors = np.empty((stop - start, target.shape[1]))
        for row in range(start, stop):
            wanted = np.clip(rest[row], -limit, limit).astype(np.float32)
            wanted[pruned[row]] = 0
            codes[row] = chooser.choose(row, wanted, weights[row], classes[row])
            error = (rest[row] - codes[row]) / correction[row, row]
            errors[row - start] = error
            later = correction[row, row + 1 : stop, None]
            rest[row + 1 : stop] -= later * error
        rest[stop:] -= correction[start:stop, stop:].T @ errors
    return codes


def error_weights(
    correction: NDArray[np.float64],
) -> NDArray[np.float32]:
    """What an error in each input costs that nothing later corrects.

    Args:
        correction: float64 array as `GramMatrix.corrections` returns it.

    Returns:
        float32 array of shape `(inputs,)` with mean 1.
    """
    weights = np.square(1 / correction.diagonal())
    relative: NDArray[np.float32] = weights / weights.mean()
    return relative.astype(np.float32)

"""The ways a kernel could go, with what each costs and loses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.low_rank.choosing import reason_not_saving
from keras_squeeze.low_rank.decomposition import Decomposition
from keras_squeeze.low_rank.kernel_info import Choice, KernelInfo, Skip
from keras_squeeze.low_rank.options import (
    Spectra,
    checked_kernel,
    make_choice,
    methods_for,
    squared_errors,
)
from keras_squeeze.low_rank.prices import price_list
from keras_squeeze.low_rank.sharing import Floats

# The bound on the error of two ranks may exceed the kernel itself.
_MOST_LOST = 1 - 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class KernelOptions:
    """The options of a kernel; the first is to leave it whole.

    Args:
        info: The kernel's `KernelInfo`.
        reason: String. Why it would stay whole.
        costs: Array of shape `(options,)`, in the unit of the budget.
        losses: Array of shape `(options,)`: minus the logarithm of the share
            of the energy that is retained.
        options: Tuple of pairs of decomposition and ranks, all but the first.
        spectra: Mapping from methods to spectra.
    """

    info: KernelInfo
    reason: str
    costs: Floats
    losses: Floats
    options: tuple[tuple[Decomposition, NDArray[np.int64]], ...] = ()
    spectra: Mapping[str, Spectra] = dataclasses.field(default_factory=dict)

    def result(self, option: int) -> Choice | Skip:
        """The choice behind an option.

        Args:
            option: Integer.

        Returns:
            `Choice`, or `Skip` for the first.
        """
        if option == 0:
            return Skip(self.info.path, self.reason)
        decomposition, ranks = self.options[option - 1]
        spectra = self.spectra[decomposition.name]
        found = tuple(ranks.tolist())
        return make_choice(decomposition, self.info, spectra, found)


def kernel_options(
    info: KernelInfo,
    kernel: NDArray[Any],
    resource: str,
    method: Any,
    min_saving: float,
) -> KernelOptions:
    """Everything that a kernel could become, with cost and loss.

    Args:
        info: The kernel's `KernelInfo`.
        kernel: Array.
        resource: String. `"parameters"`, `"bytes"` or `"flops"`.
        method: `"auto"`, or what `decompositions.get` takes.
        min_saving: Float. The least share of its parameters to save.

    Returns:
        `KernelOptions`.

    Raises:
        NonFiniteError: If a weight is NaN or infinite.
        SqueezeError: If FLOPs are to be counted and positions not known.
    """
    kernel = checked_kernel(info, kernel)
    whole = cost_of(info, resource, info.size, info.macs)
    known = methods_for(info, method)
    if isinstance(known, Skip):
        return KernelOptions(info, known.reason, np.array([whole]), np.zeros(1))
    spectra = {each.name: each.spectra(kernel) for each in known}
    options: list[tuple[Decomposition, NDArray[np.int64]]] = []
    costs, losses = [np.array([whole])], [np.zeros(1)]
    for each in known:
        prices = price_list(each, info, min_saving)
        options += [(each, ranks) for ranks in prices.ranks]
        costs.append(cost_of(info, resource, prices.parameters, prices.macs))
        losses.append(_loss(spectra[each.name], prices.ranks))
    reason = "the budget holds without it"
    if not options:
        reason = _reason_not_saving(known, info, spectra, min_saving)
    arrays = np.concatenate(costs).astype(np.float64), np.concatenate(losses)
    return KernelOptions(info, reason, *arrays, tuple(options), spectra)


def _loss(spectra: Spectra, ranks: NDArray[np.int64]) -> Floats:
    """Minus the logarithm of the share of the energy that is retained."""
    tails = squared_errors(spectra)
    lost = sum(
        tail[column] for tail, column in zip(tails, ranks.T, strict=True)
    )
    return np.asarray(-np.log1p(-np.minimum(lost, _MOST_LOST)))


def _reason_not_saving(
    known: Sequence[Decomposition],
    info: KernelInfo,
    spectra: Mapping[str, Spectra],
    min_saving: float,
) -> str:
    least = [
        make_choice(each, info, spectra[each.name], (1,) * each.rank_count)
        for each in known
    ]
    cheapest = min(least, key=lambda choice: choice.cost)
    return reason_not_saving(cheapest, info, min_saving)


def cost_of(info: KernelInfo, resource: str, parameters: Any, macs: Any) -> Any:
    """What a kernel or its factors cost, in the unit of the budget.

    Args:
        info: The kernel's `KernelInfo`.
        resource: String. `"parameters"`, `"bytes"` or `"flops"`.
        parameters: Integer, or an array of them.
        macs: Integer, or an array of them, for one position of the output.

    Returns:
        Integer, or an array of them.

    Raises:
        SqueezeError: If FLOPs are to be counted and positions not known.
    """
    if resource == "parameters":
        return parameters
    if resource == "bytes":
        return parameters * info.itemsize
    if info.positions is None:
        raise SqueezeError(
            f"{info.path}: Expected the number of output positions to be "
            "known for a budget in FLOPs: build the model on an input whose "
            "axes all have a length, as in `keras.Input((32, 32, 3))`, or "
            "give the budget in parameters or bytes. "
            f"Received: positions={info.positions}"
        )
    return 2 * macs * info.positions

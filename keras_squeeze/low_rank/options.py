"""The methods that a kernel could have, and what their ranks lose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.low_rank import decompositions
from keras_squeeze.low_rank.decomposition import Decomposition
from keras_squeeze.low_rank.kernel_info import Choice, KernelInfo, Skip
from keras_squeeze.low_rank.prices import price
from keras_squeeze.schedules.checks import check_sparsity

# Alternating least squares has no error known beforehand, and its chains are
# slow to run on some devices: it has to be asked for.
BY_NAME_ONLY = frozenset({"cp"})

Spectra = tuple[NDArray[np.float64], ...]


def methods_for(info: KernelInfo, method: Any) -> list[Decomposition] | Skip:
    """The decompositions that come into question for a kernel.

    Args:
        info: The kernel's `KernelInfo`.
        method: `"auto"`, or what `decompositions.get` takes.

    Returns:
        List of decompositions, one at least; or a `Skip` that says why there
        is none.

    Raises:
        SqueezeError: If there is no such method.
    """
    automatic = isinstance(method, str) and method == "auto"
    names = [n for n in decompositions.registry if n not in BY_NAME_ONLY]
    known = [decompositions.get(m) for m in (names if automatic else [method])]
    arguments = (info.shape, info.strides, info.dilations)
    reasons = [each.reason_not_applicable(*arguments) for each in known]
    pairs = zip(known, reasons, strict=True)
    found = [each for each, reason in pairs if reason is None]
    if found:
        return found
    pairs = zip(known, reasons, strict=True)
    return Skip(info.path, "; ".join(f"{e.name}: {why}" for e, why in pairs))


def checked_kernel(info: KernelInfo, kernel: NDArray[Any]) -> NDArray[Any]:
    """The kernel, if it is the one described and its weights are finite.

    Args:
        info: The kernel's `KernelInfo`.
        kernel: Array.

    Returns:
        The array.

    Raises:
        NonFiniteError: If a weight is NaN or infinite.
        SqueezeError: If the shape is another one.
    """
    kernel = np.asarray(kernel)
    if kernel.shape != tuple(info.shape):
        raise SqueezeError(
            f"{info.path}: Expected a kernel of shape {tuple(info.shape)}. "
            f"Received: shape={kernel.shape}"
        )
    # A sum is finite exactly if nothing in it is NaN or infinite.
    if not math.isfinite(float(np.sum(np.abs(kernel), dtype=np.float64))):
        raise NonFiniteError(
            f"{info.path}: Expected finite weights. "
            "Received: a kernel with NaN or infinity"
        )
    return kernel


def check_min_saving(value: Any) -> float:
    """Returns the share in `[0, 1)`, or raises `SqueezeError`.

    Args:
        value: Number. The least share of its parameters a kernel must save.

    Returns:
        Float.

    Raises:
        SqueezeError: If it lies outside.
    """
    return check_sparsity("min_saving", value)


def squared_errors(spectra: Spectra) -> list[NDArray[np.float64]]:
    """The relative squared error at every rank of every unfolding.

    Args:
        spectra: Tuple of arrays, as `Decomposition.spectra` returns them.

    Returns:
        List of arrays, one entry longer than the spectra; item `r` is the
        error at rank `r`.
    """
    found = []
    for values in spectra:
        scale = float(values[0]) or 1.0
        squares = (values / scale) ** 2
        total = float(squares.sum()) or 1.0
        # Summed from the smallest, so that tiny tails are exact.
        tails = np.cumsum(squares[::-1])[::-1] / total
        found.append(np.append(tails, 0.0))
    return found


def make_choice(
    decomposition: Decomposition,
    info: KernelInfo,
    spectra: Spectra,
    ranks: Sequence[int],
) -> Choice:
    """The choice of one method and its ranks.

    Args:
        decomposition: The `Decomposition`.
        info: The kernel's `KernelInfo`.
        spectra: Tuple of arrays, as `Decomposition.spectra` returns them.
        ranks: Sequence of integers.

    Returns:
        `Choice`.
    """
    parameters, macs = price(decomposition, info, ranks)
    tails = zip(squared_errors(spectra), ranks, strict=True)
    squared = min(1.0, sum(float(tail[rank]) for tail, rank in tails))
    return Choice(
        path=info.path,
        method=decomposition.name,
        ranks=tuple(int(rank) for rank in ranks),
        error=math.sqrt(squared),
        parameters=parameters,
        parameters_before=info.size,
        macs=macs,
        macs_before=info.macs,
    )

"""Which layers of a model can be factorized, and why the others cannot."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_squeeze.codecs.dtypes import dtype_from_name
from keras_squeeze.errors import NoKernelMatchedError
from keras_squeeze.factorizing.positions import output_positions
from keras_squeeze.layers.canonical_kernels import kernel_info_arguments
from keras_squeeze.layers.low_rank_conversion import reason_not_factorizable
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.low_rank import decompositions
from keras_squeeze.low_rank.kernel_info import KernelInfo, Skip
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    find_kernels,
    kernel_attributes,
    matches,
    to_numpy,
    walk_layers,
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A layer that can be factorized, and what is known of its kernel.

    Args:
        kernel: `Kernel`.
        info: Its `KernelInfo`.
    """

    kernel: Kernel
    info: KernelInfo


def select_candidates(
    model: Any,
    filters: Filters,
    method: Any = "auto",
    keep_sparsity: bool = False,
) -> tuple[list[Candidate], list[Skip]]:
    """Finds the layers to choose ranks for.

    Args:
        model: A built `keras.Model`.
        filters: Optional regex searched in the kernel's path, or callable
            `layer -> bool`.
        method: `"auto"`, or what `decompositions.get` takes. Defaults to
            `"auto"`.
        keep_sparsity: Boolean. Whether weights that are zero count as saved
            already. Defaults to `False`.

    Returns:
        Tuple of the list of `Candidate` and a list of `Skip`, why the other
        layers with kernels are left.

    Raises:
        NoKernelMatchedError: If no layer is left; the message lists the
            candidates.
    """
    found = _kernels(model)
    name = None if method == "auto" else decompositions.get(method).name
    reasons = {
        path: reason_not_factorizable(kernel.layer, name)
        for path, kernel in found.items()
    }
    reasons |= dict.fromkeys(
        _paths_of(model, LowRankLayer), "already factorized"
    )
    reasons |= dict.fromkeys(
        _paths_of(model, QuantizedKernel), "quantized: its codes are kept"
    )
    candidates = [path for path in found if reasons[path] is None]
    matched = [path for path in candidates if matches(filters, found[path])]
    if not matched:
        raise _no_match(model, filters, candidates, reasons)
    for path in set(candidates).difference(matched):
        reasons[path] = "not matched by `filters`"
    positions = output_positions(model)
    chosen = [
        _candidate(path, found[path], positions, keep_sparsity)
        for path in matched
    ]
    return chosen, [
        Skip(path, reason)
        for path, reason in reasons.items()
        if reason is not None
    ]


def _kernels(model: Any) -> dict[str, Kernel]:
    """One kernel a layer, by the layer's path; none of factors."""
    factors = {
        id(factor)
        for _, layer in walk_layers(model)
        if isinstance(layer, LowRankLayer)
        for factor in layer.factors
    }
    found: dict[str, Kernel] = {}
    if _has_only_quantized(model):
        return found
    for kernel in find_kernels(model):
        if id(kernel.layer) not in factors:
            found.setdefault(kernel.path.rpartition("/")[0], kernel)
    return found


def _has_only_quantized(model: Any) -> bool:
    holders = [x for _, x in walk_layers(model) if kernel_attributes(x)]
    return bool(holders) and all(
        isinstance(layer, QuantizedKernel) for layer in holders
    )


def _paths_of(model: Any, kind: type) -> Iterator[str]:
    for path, layer in walk_layers(model):
        if isinstance(layer, kind):
            yield path


def _candidate(
    path: str,
    kernel: Kernel,
    positions: Mapping[int, int],
    keep_sparsity: bool,
) -> Candidate:
    values = to_numpy(kernel.variable) if keep_sparsity else None
    info = KernelInfo(
        path,
        positions=positions.get(id(kernel.layer)),
        itemsize=itemsize(kernel.variable),
        nonzero=None if values is None else int(np.count_nonzero(values)),
        **kernel_info_arguments(kernel.layer),
    )
    return Candidate(kernel, info)


def _no_match(
    model: Any,
    filters: Filters,
    candidates: list[str],
    reasons: Mapping[str, str | None],
) -> NoKernelMatchedError:
    names = ", ".join(candidates) or "none"
    others = "; ".join(f"{path}: {why}" for path, why in reasons.items() if why)
    return NoKernelMatchedError(
        f"Expected `filters` to match at least one layer of {model.name!r} "
        f"that can be factorized; the candidates are: {names}"
        + (f" (not candidates: {others})" if others else "")
        + f". Received: filters={filters!r}"
    )


def itemsize(variable: Any) -> int:
    """The bytes of one weight of a variable.

    Args:
        variable: `keras.Variable`.

    Returns:
        Integer.
    """
    name = keras.backend.standardize_dtype(variable.dtype)
    return dtype_from_name(name).itemsize

"""`factorize`: a copy of a model with factors in the place of kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.factorizing.planning import factors_of, plan_layers
from keras_squeeze.factorizing.positions import output_positions
from keras_squeeze.factorizing.stock_chains import to_stock
from keras_squeeze.layers.canonical_kernels import canonical_kernel
from keras_squeeze.layers.low_rank_conversion import convert_to_low_rank
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.low_rank import decompositions
from keras_squeeze.low_rank.kernel_info import Choice
from keras_squeeze.report import Report
from keras_squeeze.shrinking.macs import count_macs
from keras_squeeze.shrinking.tracing import graph_of
from keras_squeeze.surgery.copying import compile_alike, replicate
from keras_squeeze.surgery.layer_tree import Filters, walk_layers

_COLUMNS = (
    "layer",
    "class",
    "became",
    "method",
    "shape",
    "rank",
    "error",
    "parameters_before",
    "parameters_after",
    "macs_before",
    "macs_after",
)


def factorize(
    model: Any,
    rank: Any = None,
    energy: float | None = None,
    budget: Any = None,
    method: Any = "auto",
    filters: Filters = None,
    min_saving: float = 0.1,
    seed: int = 0,
    keep_sparsity: bool = True,
) -> tuple[Any, Report]:
    """Makes a copy of a model whose kernels are products of smaller ones.

    A layer becomes two or three layers of Keras' own, run one after the
    other: `Dense`, `EinsumDense` and `Embedding` two narrow ones, a
    convolution two or three smaller ones. The new model needs nothing but
    Keras to run, train, be saved and loaded. `hidden` becomes `hidden_reduce`
    and `hidden_expand` (see `factorizing.to_stock`); the other layers keep
    their names and weights. It is compiled like the old one, with a fresh
    optimizer. The model given is not changed.

    Layers that are not part of a graph (the projections of an attention
    layer, the layers of models and layers of your own classes) become
    low-rank layers such as `LowRankDense` in place. Keras' own `save` cannot
    bring these back, as their owners build whole kernels: store such models
    by `keras_squeeze.export`. The report's column `became` tells.

    A layer is factorized only where that saves parameters and
    multiply-adds; the report names the others with the reason. Which ranks
    remain is said by one of `rank`, `energy` and `budget`.

    Args:
        model: A built `keras.Model`.
        rank: Which rank a kernel gets: an integer, a float in (0, 1] for a
            share of the full rank, the name, config or object of a rank rule
            (`"vbmf"`, `"gavish_donoho"`, `"marchenko_pastur"`), or a
            dictionary of regexes, searched in the kernels' paths, and any of
            these. Defaults to `None`.
        energy: Float in (0, 1]. The share of the squared singular values that
            a kernel keeps. Defaults to `None`; to `0.9` if neither `rank` nor
            `budget` is given.
        budget: What the whole model may cost, spread over the layers where
            it hurts least: a float for a share of its parameters, or a
            dictionary with one of `"parameters"`, `"bytes"` or `"flops"` (two
            a multiply-add, of one sample), an integer or a share. Defaults to
            `None`.
        method: String. `"svd"` for matrices; `"channel_svd"`,
            `"spatial_svd"`, `"tucker2"` or `"cp"` for convolutions; `"auto"`
            takes the cheapest at the error allowed, but never CP. Defaults to
            `"auto"`.
        filters: Optional regex searched in the kernel's path, or callable
            `layer -> bool`. `None` takes all. Defaults to `None`.
        min_saving: Float in [0, 1). The share of its parameters that a layer
            must save to be factorized. Defaults to `0.1`: two layers
            of hardly fewer multiplications take longer than one.
        seed: Integer. For methods that begin at random. Defaults to `0`.
        keep_sparsity: Boolean. Whether weights that are zero, as pruning
            leaves them, count as saved already: factors have no zeros, so a
            sparse kernel is left unless they have fewer weights than it has
            that are not zero. Defaults to `True`.

    Returns:
        Tuple of the new model and a `Report` with a row a layer; `error` is
        the Frobenius norm of what its kernel lost over that of the kernel,
        multiply-adds are those of one sample, where the graph tells.

    Raises:
        NoKernelMatchedError: If no kernel is left; the message lists the
            candidates.
        NonFiniteError: If a kernel holds NaN or infinity.
        SqueezeError: If an argument is out of its range, or the budget cannot
            be met; the message names the smallest that can.
        UnbuiltModelError: If the model has no variables yet.
        UnsupportedModelError: If the model cannot be made again from its
            config.

    Example:
    >>> import keras
    >>> model = keras.Sequential(
    ...     [keras.Input((64,)), keras.layers.Dense(64, name="hidden")]
    ... )
    >>> smaller, report = factorize(model, rank=8)
    >>> [layer.name for layer in smaller.layers]
    ['hidden_reduce', 'hidden_expand']
    >>> report.totals["parameters_before"], report.totals["parameters_after"]
    (4160, 1088)

    References:
        [Denton et al., 2014](https://arxiv.org/abs/1404.0736)
    """
    planned = plan_layers(
        model,
        rank,
        energy,
        budget,
        method,
        filters,
        min_saving,
        keep_sparsity,
    )
    copy = replicate(model)
    layers = dict(walk_layers(copy))
    positions = output_positions(model)
    rows = []
    for path, layer, choice in planned:
        if isinstance(choice, Choice):
            factors = factors_of(layer, choice, seed)
            convert_to_low_rank(layers[path], choice.method, factors)
            count = positions.get(id(layer))
            rows.append(_row(layer, choice, factors, count))
    smaller = copy if graph_of(copy) is None else to_stock(copy)
    compile_alike(model, smaller)
    left = _low_rank_classes(smaller)
    for row in rows:
        row["became"] = left.get(row["layer"], row["became"])
    skipped = tuple(
        {"path": path, "reason": choice.reason}
        for path, _, choice in planned
        if not isinstance(choice, Choice)
    )
    title = f"Factorized {len(rows)} layers of {model.name}"
    totals = _totals(model, smaller, len(rows))
    return smaller, Report(title, _COLUMNS, tuple(rows), totals, skipped)


def _row(
    layer: Any,
    choice: Choice,
    factors: tuple[NDArray[Any], ...],
    positions: int | None,
) -> dict[str, Any]:
    kernel = canonical_kernel(layer)
    macs = (choice.macs_before, choice.macs)
    counted = [None if positions is None else n * positions for n in macs]
    return {
        "layer": choice.path,
        "class": type(layer).__name__,
        "became": f"{len(factors)} layers",
        "method": choice.method,
        "shape": list(kernel.shape),
        "rank": list(choice.ranks),
        "error": _relative_error(kernel, choice.method, factors),
        "parameters_before": choice.parameters_before,
        "parameters_after": choice.parameters,
        "macs_before": counted[0],
        "macs_after": counted[1],
    }


def _relative_error(
    kernel: NDArray[Any], method: str, factors: tuple[NDArray[Any], ...]
) -> float:
    exact = kernel.astype(np.float64)
    product = decompositions.get(method).compose(factors)
    norm = float(np.linalg.norm(exact))
    lost = float(np.linalg.norm(exact - product.astype(np.float64)))
    # A kernel of zeros loses nothing.
    return lost / norm if norm else lost


def _low_rank_classes(model: Any) -> dict[str, str]:
    return {
        path: type(layer).__name__
        for path, layer in walk_layers(model)
        if isinstance(layer, LowRankLayer)
    }


def _totals(model: Any, smaller: Any, layers: int) -> dict[str, Any]:
    sizes = model.count_params(), smaller.count_params()
    totals = {
        "layers": layers,
        "parameters_before": sizes[0],
        "parameters_after": sizes[1],
        "ratio": sizes[0] / max(1, sizes[1]),
    }
    if graph_of(model) is not None:
        totals["macs_before"] = sum(count_macs(model).values())
        totals["macs_after"] = sum(count_macs(smaller).values())
    return totals

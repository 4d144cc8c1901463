"""Pruning once, without training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking import gradient_statistics
from keras_squeeze.masking.gradient_statistics import GradientSums
from keras_squeeze.masking.kernel_mask import zero_share
from keras_squeeze.masking.mask_choice import (
    KernelValues,
    pick,
    score,
)
from keras_squeeze.masking.plan import PruningPlan, make_plan, needed
from keras_squeeze.masking.statistics import GATHERED, Statistics
from keras_squeeze.report import Report
from keras_squeeze.surgery.kernel_quantization import channel_axis
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    check_built,
    find_kernels,
    to_numpy,
)

_COLUMNS = ("layer", "shape", "wanted", "sparsity", "pattern", "note")


def apply(
    model: Any,
    sparsity: float,
    criterion: Any = "magnitude",
    pattern: Any = "unstructured",
    allocation: Any = "uniform",
    filters: Filters = None,
    data: Any = None,
    batch_size: int = 32,
) -> Report:
    """Sets a share of a model's weights to zero, once and in place.

    Weights that are zero already are the first to go. Nothing keeps the zeros
    if the model is trained on: `callbacks.Pruning` with a schedule that is
    constant does.

    Args:
        model: A built `keras.Model`. For criteria of gradients it must be
            compiled with a loss.
        sparsity: Float in `[0, 1)`. The share of weights that go.
        criterion: Name, config or object that ranks the weights of a kernel.
            Defaults to `"magnitude"`.
        pattern: Name, config or object that chooses from the ranks. Defaults
            to `"unstructured"`.
        allocation: Name, config or object that shares the sparsity out among
            the kernels, or a dictionary of regexes and sparsities. Defaults
            to `"uniform"`.
        filters: Optional regex, searched in the kernels' paths, or callable
            `layer -> bool`. Defaults to `None`: all kernels.
        data: Pair `(x, y)` of arrays, or of lists or dictionaries of arrays,
            or a `tf.data.Dataset` of such batches, that criteria of gradients
            and activations run the model over once, in inference mode.
            Defaults to `None`.
        batch_size: Integer. Samples of arrays that are run at a time.
            Defaults to `32`.

    Returns:
        `Report` with a row a kernel: the sparsity wanted and achieved, the
        pattern, and a note where one weight, or one group of the pattern, was
        kept because the layer would have been empty.

    Raises:
        UnbuiltModelError: If the model has no variables yet.
        NoKernelMatchedError: If `filters` leaves no kernel.
        SqueezeError: If an argument is not what is listed here, or the
            pattern does not fit a kernel. The model is then unchanged.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> report = apply(model, 0.75)
    >>> report.rows[0]["sparsity"]
    0.75
    """
    # A constant sparsity is what a number means as a schedule.
    plan = make_plan(
        _check_number(sparsity),
        criterion,
        pattern,
        allocation,
        None,
        filters,
        1,
        0,
    )
    check_built(model)
    kernels = find_kernels(model, plan.filters)
    values = _gather(model, plan, kernels, data, batch_size)
    pruned = [value.kernel for value in values]
    scores = [score(plan, value) for value in values]
    picked = pick(plan, pruned, scores, sparsity)
    for value, keep in zip(values, picked.masks, strict=True):
        zero = value.weights.dtype.type(0)
        value.kernel.variable.assign(np.where(keep, value.weights, zero))
    rows = tuple(
        _row(plan, kernel, keep, share)
        for kernel, keep, share in zip(
            pruned, picked.masks, picked.sparsities, strict=True
        )
    )
    return _report(model, rows, kernels, pruned)


def _gather(
    model: Any,
    plan: PruningPlan,
    kernels: list[Kernel],
    data: Any,
    batch_size: int,
) -> list[KernelValues]:
    names = needed(plan.criterion)
    gradients = [n for n in names if n in gradient_statistics.NAMES]
    others = [n for n in names if n not in gradients]
    if data is None and set(names) & set(GATHERED):
        raise SqueezeError(
            f"Expected `data=(x, y)`: {plan.criterion!r} needs "
            f"{', '.join(names)}. Received: data=None"
        )
    statistics = Statistics(model, kernels, others, None, training_only=False)
    sums = [GradientSums(kernel, gradients) for kernel in statistics.kernels]
    if gradients or statistics.gathers:
        _run(model, statistics, sums if gradients else [], data, batch_size)
    found = statistics.read()
    values = []
    for one, own in zip(sums, found, strict=True):
        weights = to_numpy(one.kernel.variable)
        own = {**own, **one.means()}
        values.append(KernelValues(one.kernel, weights, weights != 0, own))
    return values


def _run(
    model: Any,
    statistics: Statistics,
    sums: list[GradientSums],
    data: Any,
    batch_size: int,
) -> None:
    batches = 0
    statistics.attach()
    statistics.record(True)
    try:
        for x, y in _batches(data, batch_size):
            if sums:
                _add_gradients(model, sums, x, y)
            else:
                model(x, training=False)
            batches += 1
    finally:
        statistics.detach()
    if not batches:
        raise SqueezeError(
            "Expected `data` with at least one sample. Received: "
            f"{type(data).__name__} without any"
        )
    missing = statistics.missing()
    missing += [one.kernel.path for one in sums if not one.count()]
    if missing:
        raise SqueezeError(
            "Expected the data to reach every kernel; exclude others by "
            f"`filters`. Received: nothing of {', '.join(missing)}"
        )


def _add_gradients(
    model: Any, sums: list[GradientSums], x: Any, y: Any
) -> None:
    _check_loss(model, y)
    import tensorflow as tf

    variables = [one.kernel.variable.value for one in sums]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        # Kernels that are not trainable have gradients too.
        tape.watch(variables)
        outputs = model(x, training=False)
        loss = model.compute_loss(x, y, outputs)
    gradients = tape.gradient(loss, variables)
    for one, gradient, variable in zip(sums, gradients, variables, strict=True):
        if gradient is not None:
            one.add(_assign_add, gradient, variable)


def _assign_add(variable: Any, value: Any) -> None:
    variable.assign_add(value)


def _check_loss(model: Any, y: Any) -> None:
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise SqueezeError(
            "Expected Keras to run on TensorFlow for a criterion of gradients. "
            f"Received: backend={backend!r}"
        )
    if not getattr(model, "compiled", False) or y is None:
        raise SqueezeError(
            "Expected a model compiled with a loss, and `data=(x, y)`, for a "
            f"criterion of gradients. Received: compiled={model.compiled}, "
            f"y={'None' if y is None else type(y).__name__}"
        )


def _batches(data: Any, batch_size: int) -> Iterator[tuple[Any, Any]]:
    if hasattr(data, "element_spec"):
        for batch in data:
            yield _pair(batch)
        return
    pair = _pair(data)
    leaves = [leaf for leaf in keras.tree.flatten(pair) if leaf is not None]
    for start in range(0, len(leaves[0]) if leaves else 0, batch_size):
        part = slice(start, start + batch_size)
        x, y = keras.tree.map_structure(
            lambda a, p=part: None if a is None else np.asarray(a[p]), pair
        )
        yield x, y


def _pair(data: Any) -> tuple[Any, Any]:
    if isinstance(data, tuple) and len(data) == 2:
        return data[0], data[1]
    return data, None


def _row(
    plan: PruningPlan, kernel: Kernel, keep: NDArray[np.bool_], share: float
) -> dict[str, Any]:
    return {
        "layer": kernel.path,
        "shape": keep.shape,
        "wanted": share,
        "sparsity": zero_share([to_numpy(kernel.variable)]),
        "pattern": repr(plan.pattern),
        "note": _note(plan, kernel, keep) if share else "",
    }


def _note(plan: PruningPlan, kernel: Kernel, keep: NDArray[np.bool_]) -> str:
    kept = int(np.count_nonzero(keep))
    if kept == 1:
        return "one weight kept"
    group_sizes = getattr(plan.pattern, "group_sizes", None)
    if group_sizes is not None:
        sizes = group_sizes(keep.shape, channel_axis(kernel))
        if kept < keep.size and kept <= sizes.max():
            return "one group kept"
    return ""


def _report(
    model: Any,
    rows: tuple[dict[str, Any], ...],
    kernels: list[Kernel],
    pruned: list[Kernel],
) -> Report:
    left = {k.path for k in kernels} - {k.path for k in pruned}
    reason = "no BatchNormalization scales its outputs"
    arrays = [to_numpy(kernel.variable) for kernel in pruned]
    return Report(
        f"Pruned {model.name}",
        _COLUMNS,
        rows,
        {
            "sparsity": zero_share(arrays),
            "weights": sum(array.size for array in arrays),
            "nonzero": sum(int(np.count_nonzero(array)) for array in arrays),
        },
        tuple({"path": path, "reason": reason} for path in sorted(left)),
    )


def _check_number(sparsity: Any) -> Any:
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float):
        raise SqueezeError(
            f"Expected `sparsity` to be a number in [0, 1). Received: "
            f"{sparsity!r}"
        )
    return sparsity

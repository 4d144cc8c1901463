"""`shrink`: a smaller model that computes the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_squeeze.report import Report
from keras_squeeze.shrinking.choosing import (
    ChannelIndices,
    Choice,
    Request,
    choose,
)
from keras_squeeze.shrinking.latency import compare_latency
from keras_squeeze.shrinking.macs import count_macs
from keras_squeeze.shrinking.optimizer_state import carry_optimizer
from keras_squeeze.shrinking.rebuilding import rebuild
from keras_squeeze.shrinking.tracing import graph_of
from keras_squeeze.surgery.copying import copy_model
from keras_squeeze.surgery.layer_tree import (
    Filters,
    check_built,
    walk_layers,
)

_COLUMNS = (
    "layer",
    "channels_before",
    "channels_after",
    "parameters_before",
    "parameters_after",
    "macs_before",
    "macs_after",
)


def shrink(
    model: Any,
    round_to: int = 1,
    channels: ChannelIndices | None = None,
    sparsity: float | None = None,
    criterion: Any = "magnitude",
    filters: Filters = None,
    exact: bool = True,
    measure_latency: bool = False,
    batch_size: int = 32,
) -> tuple[Any, Report]:
    """Makes a model without the channels that do nothing.

    A channel is an output of a convolution, a unit of a dense or recurrent
    layer, a head of an attention layer. Which channels go together is read
    off the graph: those that are added, normalized, concatenated, flattened.
    The smaller model is built from Keras' own config with smaller widths; it
    has the old names, is compiled like the old model and continues its
    optimizer's state. The model given is not changed.

    By default channels go that no longer depend on the input, as their
    weights are zero, if that changes no output: because the channel is zero
    where it is read, or because a bias can take what it gave.

    With `channels` or `sparsity` the weights of further channels count as
    zero (see `mask_channels`); the smaller model computes what the model
    masked so would. It should be trained further.

    Channels stay where a layer is not understood (a class of your own, a
    `Lambda`), and where a layer normalization or softmax runs over them.
    The report says which and why.

    Args:
        model: A built Sequential or Functional `keras.Model`; models inside
            it are shrunk too.
        round_to: Integer. What remains of a layer's channels is a multiple,
            filled up with those of the highest scores. Defaults to `1`.
        channels: Optional mapping of a layer's path to indices of channels
            to remove: `{"encoder/conv": [0, 3]}`. Heads, keys and values of
            an attention layer are `"attention/heads"`, `"attention/key"`,
            `"attention/value"`. Defaults to `None`.
        sparsity: Optional float in [0, 1). The share of the channels to
            remove, lowest scores first, wherever channels go together.
            Defaults to `None`.
        criterion: String, config or criterion of `keras_squeeze.pruning`
            that needs the kernel alone. Defaults to `"magnitude"`.
        filters: Optional regex searched in the paths of layers, or callable
            `layer -> bool`: with `sparsity`, channels go where all layers
            that share them pass. Defaults to `None`, all layers.
        exact: Boolean. If false, channels that are constant but not zero are
            removed like zeros, which changes outputs a little. Defaults to
            `True`.
        measure_latency: Boolean. Whether to measure both models, in turns.
            Defaults to `False`.
        batch_size: Integer. Samples in a measured batch. Defaults to `32`.

    Returns:
        Tuple of the new model and a `Report` with a row a layer.

    Raises:
        NoKernelMatchedError: If `filters` leaves no layer.
        SqueezeError: If an argument is out of its range, or a channel that is
            named does not exist or cannot be removed.
        UnbuiltModelError: If the model has no variables yet.
        UnsupportedModelError: If the model cannot be made again from its
            config.

    Example:
    >>> import keras
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)]
    ... )
    >>> smaller, report = shrink(model, sparsity=0.25)
    >>> smaller.layers[0].units
    12
    >>> report.totals["parameters_before"], report.totals["parameters_after"]
    (178, 134)

    References:
        [Li et al., 2017](https://arxiv.org/abs/1608.08710)
    """
    check_built(model)
    request = Request(channels, sparsity, criterion, filters, round_to, exact)
    choice = choose(model, request)
    if choice is None:
        return _unchanged(model)
    smaller = rebuild(model, choice.cut)
    carry_optimizer(model, smaller, choice.cut)
    rows = tuple(_rows(model, smaller, choice))
    totals = _totals(model, smaller)
    if measure_latency:
        before, after = compare_latency(model, smaller, batch_size)
        totals["latency_ms_before"] = before
        totals["latency_ms_after"] = after
    gone = sum(len(indices) for indices in choice.indices().values())
    title = f"Removed {gone} channels of {model.name}"
    return smaller, Report(
        title, _COLUMNS, rows, totals, tuple(_skipped(choice, exact))
    )


def _unchanged(model: Any) -> tuple[Any, Report]:
    kind = type(model).__name__
    reason = f"the config of a {kind} describes no graph of layers"
    skipped = ({"path": model.name, "reason": reason},)
    size = model.count_params()
    totals = {"parameters_before": size, "parameters_after": size}
    title = f"Removed 0 channels of {model.name}"
    return copy_model(model), Report(title, _COLUMNS, (), totals, skipped)


def _totals(model: Any, smaller: Any) -> dict[str, Any]:
    return {
        "parameters_before": model.count_params(),
        "parameters_after": smaller.count_params(),
        "macs_before": sum(count_macs(model).values()),
        "macs_after": sum(count_macs(smaller).values()),
    }


def _rows(model: Any, smaller: Any, choice: Choice) -> Iterator[dict[str, Any]]:
    """Layers of the graph that have channels or parameters."""
    macs = count_macs(model), count_macs(smaller)
    widths = choice.candidates.outputs.values()
    for (path, before), (_, after) in zip(
        walk_layers(model), walk_layers(smaller), strict=True
    ):
        if id(before) not in macs[0] or graph_of(before) is not None:
            continue
        figures: dict[str, Any] = {
            "parameters_before": before.count_params(),
            "parameters_after": after.count_params(),
            "macs_before": macs[0][id(before)],
            "macs_after": macs[1][id(after)],
        }
        counts = [
            {
                "layer": width.path,
                "channels_before": len(width.ids) // width.divisor,
                "channels_after": choice.cut.count(width),
            }
            for width in widths
            if width.layer is before
        ]
        if not counts and before.count_params():
            counts = [{"layer": path}]
        for row in counts:
            yield {**row, **figures}
            figures = {}


def _skipped(choice: Choice, exact: bool) -> Iterator[dict[str, str]]:
    candidates = choice.candidates
    for path, width in candidates.outputs.items():
        roots = candidates.roots_of(width).tolist()
        locked = [root for root in roots if root in candidates.locks]
        if locked:
            where, reason = candidates.locks[locked[0]]
            place = f" ({where})" if where not in ("", path) else ""
            share = "" if len(locked) == len(roots) else f"{len(locked)} of "
            yield {
                "path": path,
                "reason": f"{share}{len(roots)} channels stay: {reason}{place}",
            }
        stayed = sum(root in choice.stayed for root in roots)
        if stayed:
            advice = "; exact=False removes them" if exact else ""
            yield {
                "path": path,
                "reason": f"{stayed} channels stay: they are constant, but "
                f"not zero where a padded or recurrent kernel reads them"
                f"{advice}",
            }

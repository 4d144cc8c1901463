"""Pictures of sparsity: a bar a layer, or lines over the training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from keras_squeeze.errors import SqueezeError
from keras_squeeze.report.figures import new_figure, save_figure
from keras_squeeze.report.table import Report

_BAR_INCHES = 0.28
_MARKED_POINTS = 30


def plot_sparsity(
    source: Any, path: str | os.PathLike[str] | None = None
) -> Any:
    """Draws the sparsity of a model's layers, or its course while it trains.

    Args:
        source: One of: the report of `ks.summary`, for a bar a kernel; the
            `History` that `fit` returned, or its dictionary of logs, for a
            line over the epochs; or a sequence of pairs `(step, sparsities)`
            for a line a layer over the steps, where `sparsities` is a
            report of `ks.summary` or a mapping of a layer to a float.
        path: Optional path of an image to write; its suffix chooses the
            format. Defaults to `None`.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        SqueezeError: If `source` holds no sparsity, matplotlib is not
            installed, or it does not know the format.

    Example:
    ```python
    history = model.fit(x, y, callbacks=[ks.callbacks.Pruning(0.9)])
    ks.report.plot_sparsity(history, "training.png")
    ks.report.plot_sparsity(ks.summary(model), "layers.png")
    ```
    """
    if isinstance(source, Report):
        figure = _bars(_by_kernel(source), source.title)
    else:
        lines, unit = _lines(source)
        figure = _curves(lines, unit)
    save_figure(figure, path)
    return figure


def _by_kernel(report: Report) -> dict[str, float]:
    rows = [row for row in report.rows if row.get("pattern") is not None]
    found = {f"{row['layer']}/{row['weight']}": row for row in rows}
    if not found:
        raise SqueezeError(
            "Expected a report of `ks.summary` with at least one kernel. "
            f"Received: {report.title!r} with the columns {report.columns}"
        )
    return {name: float(row["sparsity"]) for name, row in found.items()}


def _lines(
    source: Any,
) -> tuple[dict[str, tuple[list[float], list[float]]], str]:
    """Names to points, and what the points are counted in."""
    logs = getattr(source, "history", source)
    if isinstance(logs, Mapping):
        return _of_logs(logs), "epoch"
    if not isinstance(source, Sequence) or not source:
        raise SqueezeError(
            "Expected a report of `ks.summary`, a History, its logs, or a "
            "sequence of pairs (step, sparsities). Received: "
            f"{type(source).__name__} {source!r}"
        )
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for step, found in source:
        named = _by_kernel(found) if isinstance(found, Report) else found
        for name, sparsity in named.items():
            steps, values = lines.setdefault(name, ([], []))
            steps.append(step)
            values.append(float(sparsity))
    return lines, "step"


def _of_logs(
    logs: Mapping[str, Sequence[float]],
) -> dict[str, tuple[list[float], list[float]]]:
    names = [name for name in logs if "sparsity" in name]
    if not names:
        raise SqueezeError(
            "Expected logs with `sparsity`, which the pruning callbacks "
            f"write at the end of an epoch. Received: {list(logs)}"
        )
    return {
        name: (
            [float(epoch) for epoch in range(1, len(logs[name]) + 1)],
            [float(value) for value in logs[name]],
        )
        for name in names
    }


def _bars(sparsities: Mapping[str, float], title: str) -> Any:
    height = 1.2 + _BAR_INCHES * len(sparsities)
    figure, axes = new_figure(7.0, height)
    bars = axes.barh(list(sparsities), list(sparsities.values()), height=0.7)
    axes.bar_label(bars, fmt="{:.1%}", padding=3, fontsize=8)
    # The first layer on top, as in the table.
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("sparsity")
    axes.set_xlim(0, 1.12)
    axes.grid(axis="x", alpha=0.3)
    return figure


def _curves(
    lines: Mapping[str, tuple[list[float], list[float]]], unit: str
) -> Any:
    figure, axes = new_figure(7.0, 3.6)
    for name, (steps, values) in lines.items():
        few = len(steps) <= _MARKED_POINTS
        axes.plot(steps, values, marker="." if few else "", label=name)
    axes.set_xlabel(unit)
    axes.set_ylabel("sparsity")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure

"""The curves of schedules: sparsity against the step."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from keras_squeeze.errors import SqueezeError
from keras_squeeze.report.figures import new_figure, save_figure

_POINTS = 250


def plot_schedules(
    schedules: Mapping[str, Callable[[int], float]],
    steps: int,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Draws schedules into one picture, a curve each.

    Args:
        schedules: Mapping of a label to a schedule, or to any callable
            `step -> float`.
        steps: Integer. The last step that is drawn.
        path: Optional path of an image to write; its suffix chooses the
            format. Defaults to `None`.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        SqueezeError: If there is no schedule or no step, matplotlib is not
            installed, or it does not know the format.

    Example:
    ```python
    ramp = ks.schedules.PolynomialDecay(0.0, 0.9, 200, 800)
    ks.report.plot_schedules({"cubic": ramp}, 1000, "ramp.svg")
    ```
    """
    if not schedules or steps < 1:
        raise SqueezeError(
            "Expected at least one schedule and one step. Received: "
            f"{len(schedules)} schedules, steps={steps}"
        )
    figure, axes = new_figure(7.0, 3.6)
    stride = max(1, steps // _POINTS)
    drawn = range(0, steps + 1, stride)
    for label, schedule in schedules.items():
        values = [float(schedule(step)) for step in drawn]
        axes.plot(drawn, values, label=label, drawstyle="steps-post")
    axes.set_xlabel("step")
    axes.set_ylabel("sparsity")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    save_figure(figure, path)
    return figure

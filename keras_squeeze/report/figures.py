"""Figures of matplotlib without pyplot: no window, no global state."""

from __future__ import annotations

import os
from typing import Any

from keras_squeeze.errors import SqueezeError

_DOTS_PER_INCH = 150
# Equal plots make equal files: no random ids, text as text.
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "keras_squeeze",
    "svg.fonttype": "none",
}


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """An empty figure with one pair of axes.

    Args:
        width: Float. Inches.
        height: Float. Inches.

    Returns:
        Pair of `matplotlib.figure.Figure` and its axes.

    Raises:
        SqueezeError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SqueezeError(
            "Expected matplotlib, which `pip install keras_squeeze[plot]` "
            f"brings. Received: {error}"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def save_figure(figure: Any, path: str | os.PathLike[str] | None) -> None:
    """Writes a figure, if there is a path.

    Args:
        figure: `matplotlib.figure.Figure`.
        path: Path of the image, whose suffix chooses the format, or `None`.

    Raises:
        SqueezeError: If matplotlib does not know the format.
    """
    if path is None:
        return
    from matplotlib import rc_context

    undated = {"Date": None} if os.fspath(path).endswith(".svg") else None
    try:
        with rc_context(_SETTINGS):
            figure.savefig(path, dpi=_DOTS_PER_INCH, metadata=undated)
    except ValueError as error:
        raise SqueezeError(
            f"Expected a path of an image. Received: {os.fspath(path)!r}, "
            f"{error}"
        ) from error

"""The picture of a comparison: ratio against decoding speed."""

from __future__ import annotations

import os

from keras_squeeze.errors import SqueezeError
from keras_squeeze.report import Report

_SIZE_INCHES = (7.0, 4.5)
_DOTS_PER_INCH = 150


def save_plot(report: Report, path: str | os.PathLike[str]) -> None:
    """Writes a scatter plot, a point a codec.

    Args:
        report: What `codecs.compare` returned.
        path: Path of the image; its suffix chooses the format.

    Raises:
        SqueezeError: If matplotlib is not installed, or does not know the
            format.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SqueezeError(
            "Expected matplotlib, which `pip install keras_squeeze[plot]` "
            f"brings. Received: {error}"
        ) from error
    # A figure without pyplot: no window, no global state.
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    for row in report.rows:
        point = row["decode_mb_s"], row["ratio"]
        axes.scatter(*point, s=18, color="C0")
        axes.annotate(
            row["codec"],
            point,
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.set_xlabel("decoding, MB/s of the arrays")
    axes.set_ylabel("original bytes / coded bytes")
    axes.grid(alpha=0.3)
    try:
        figure.savefig(path, dpi=_DOTS_PER_INCH)
    except ValueError as error:
        raise SqueezeError(
            f"Expected a path of an image. Received: {os.fspath(path)!r}, "
            f"{error}"
        ) from error

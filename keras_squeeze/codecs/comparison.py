"""`codecs.compare`: every codec on the same arrays, as a table and a plot."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_squeeze import codecs as registry
from keras_squeeze.codecs.codec import Codec
from keras_squeeze.codecs.trials import (
    Trial,
    codec_trial,
    joined_trials,
    missing_library,
    smallest_trial,
)
from keras_squeeze.errors import SqueezeError
from keras_squeeze.report import Report

COLUMNS = (
    "codec",
    "tensors",
    "bytes",
    "ratio",
    "bits_per_weight",
    "encode_mb_s",
    "decode_mb_s",
)


def compare(
    arrays: Mapping[str, np.ndarray] | Sequence[np.ndarray],
    codecs: Sequence[str | Mapping[str, Any] | Codec] | None = None,
    *,
    repeats: int = 5,
    plot: str | os.PathLike[str] | None = None,
    original_bytes: int | None = None,
) -> Report:
    """Measures size and speed of codecs on given arrays.

    Each codec codes each array for itself; arrays that it does not support
    are stored raw, and the column `tensors` tells how many it took. Every
    round trip is checked bit for bit.

    Args:
        arrays: Sequence of arrays, or mapping of name to array.
        codecs: Optional sequence of what `codecs.get` takes. Defaults to all
            registered codecs, the smallest of them for each array
            (`smallest`), and what is done to whole files: gzip and lzma over
            all bytes joined.
        repeats: Integer. How often each codec runs at most; the fastest run
            counts. Defaults to 5.
        plot: Optional path of an image to write: ratio against decoding
            speed. Needs matplotlib, the extra `keras_squeeze[plot]`.
        original_bytes: Optional integer. What `ratio` is relative to.
            Defaults to the bytes of the arrays.

    Returns:
        A `Report` with a row a codec, smallest first: `bytes`, `ratio`,
        `bits_per_weight`, and `encode_mb_s` and `decode_mb_s` in 10^6 bytes of
        the arrays a second. Codecs whose library is not installed, or that
        support none of the arrays, are in `skipped`.

    Raises:
        SqueezeError: If there are no elements, or a codec was asked for by
            name that is not installed.
        CorruptArtifactError: If a codec does not give back what it coded.

    Example:
    >>> codes = np.arange(1000, dtype="int8") % 5
    >>> report = compare([codes], ["raw", "rans"], repeats=1)
    >>> [row["codec"] for row in report.rows]
    ['rans', 'raw']
    """
    found = list(arrays.values() if isinstance(arrays, Mapping) else arrays)
    found = [np.asarray(array) for array in found]
    weights = sum(array.size for array in found)
    if not weights:
        raise SqueezeError(
            f"Expected arrays with elements. Received: {len(found)} without"
        )
    array_bytes = sum(array.nbytes for array in found)
    original = original_bytes or array_bytes
    skipped: list[dict[str, str]] = []
    if codecs is None:
        trials = list(_all_trials(found, skipped))
    else:
        trials = [_chosen(registry.get(c), found) for c in codecs]
    rows = [trial.measure(repeats) for trial in trials]
    for row in rows:
        row["ratio"] = original / row["bytes"]
        row["bits_per_weight"] = 8 * row["bytes"] / weights
    rows.sort(key=lambda row: row["bytes"])
    totals = {
        "tensors": len(found),
        "weights": weights,
        "array_bytes": array_bytes,
    }
    title = "Codecs: bytes of all arrays, MB/s of what is coded"
    report = Report(title, COLUMNS, tuple(rows), totals, tuple(skipped))
    if plot is not None:
        from keras_squeeze.codecs.comparison_plot import save_plot

        save_plot(report, plot)
    return report


def _all_trials(
    arrays: Sequence[np.ndarray], skipped: list[dict[str, str]]
) -> Iterator[Trial]:
    yield smallest_trial(arrays)
    for name in registry.names():
        codec = registry.get(name)
        library = missing_library(codec)
        reason = f"the library {library} is not installed" if library else ""
        if not reason and not any(codec.supports(array) for array in arrays):
            reason = "supports none of the arrays"
        if reason:
            skipped.append({"path": name, "reason": reason})
        else:
            yield codec_trial(codec, arrays)
    yield from joined_trials(arrays)


def _chosen(codec: Codec, arrays: Sequence[np.ndarray]) -> Trial:
    library = missing_library(codec)
    if library:
        raise SqueezeError(
            f"Codec {codec.id!r}: expected the library {library!r}, which "
            "`pip install keras_squeeze[codecs]` brings. Received: no such "
            "module"
        )
    return codec_trial(codec, arrays)

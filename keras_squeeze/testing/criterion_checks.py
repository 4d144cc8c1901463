"""What every criterion must do, as one callable check."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning.criteria import Criterion
from keras_squeeze.testing.expectations import check_config, expect

_SHAPES = ((7,), (6, 4), (3, 2, 4, 5))


def check_criterion(criterion: Criterion) -> None:
    """Checks that a criterion keeps the contract of `pruning.Criterion`.

    Scores have the kernel's shape and are ordered floats; inputs stay as they
    are; equal inputs give equal scores; weights that are zero rank below all
    others; kernels of half precision and statistics that broadcast are taken;
    a missing statistic raises `SqueezeError` with its name; the config makes
    an equal criterion.

    Args:
        criterion: The `Criterion` to check.

    Raises:
        AssertionError: If the criterion breaks the contract.

    Example:
    >>> from keras_squeeze import pruning, testing
    >>> testing.check_criterion(pruning.Magnitude())
    """
    check_config(criterion)
    random = np.random.default_rng(0)
    for shape in _SHAPES:
        for dtype in (np.float16, np.float32, np.float64):
            kernel = random.normal(size=shape).astype(dtype)
            kernel.flat[::3] = 0
            _check_scores(criterion, kernel, _statistics(criterion, kernel))
        _check_missing(criterion, kernel)


def _statistics(
    criterion: Criterion, kernel: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Positive numbers, except where a sign means something."""
    random = np.random.default_rng(1)
    # `activation` goes with the inputs of a layer, `scale` with its outputs.
    inputs = (*(1,) * (kernel.ndim - 2), *kernel.shape[-2:-1], 1)
    narrow = {"activation": inputs[-kernel.ndim :], "scale": kernel.shape[-1:]}
    found = {}
    for name in getattr(criterion, "statistics", ()):
        shape = narrow.get(name, kernel.shape)
        values = random.uniform(0.1, 2, shape).astype(np.float32)
        if name in ("gradient", "gradient_times_weight"):
            values *= random.choice([-1, 1], shape)
        found[name] = values
    return found


def _check_scores(
    criterion: Criterion,
    kernel: NDArray[Any],
    statistics: dict[str, NDArray[Any]],
) -> None:
    before = kernel.copy()
    stored = {name: values.copy() for name, values in statistics.items()}
    scores = criterion.scores(kernel, **statistics)
    expect(isinstance(scores, np.ndarray), "an array", type(scores))
    expect(scores.shape == kernel.shape, f"shape {kernel.shape}", scores.shape)
    expect(
        scores.dtype in (np.float32, np.float64),
        "float32 or float64 scores",
        scores.dtype,
    )
    expect(not np.isnan(scores).any(), "scores without NaN", scores)
    kept = np.array_equal(kernel, before) and all(
        np.array_equal(statistics[name], stored[name]) for name in stored
    )
    expect(kept, "untouched inputs", kernel)
    expect(not np.shares_memory(scores, kernel), "a new array", "the kernel's")
    again = criterion.scores(kernel, **statistics)
    expect(np.array_equal(again, scores), "equal scores twice", again)
    lowest = scores[kernel != 0].min()
    expect(
        bool((scores[kernel == 0] < lowest).all()),
        "zero weights to rank below all others",
        scores,
    )


def _check_missing(criterion: Criterion, kernel: NDArray[Any]) -> None:
    statistics = _statistics(criterion, kernel)
    for name in statistics:
        rest = {k: v for k, v in statistics.items() if k != name}
        try:
            criterion.scores(kernel, **rest)
        except SqueezeError as error:
            expect(name in str(error), f"an error that names {name}", error)
        except Exception as error:
            raise AssertionError(
                f"Expected a SqueezeError that names {name!r}. "
                f"Received: {error!r}"
            ) from error
        else:
            raise AssertionError(
                f"Expected a SqueezeError without {name!r}. Received: scores"
            )

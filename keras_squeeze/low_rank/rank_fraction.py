"""A fraction of the full rank."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.low_rank.rank_rules import RankRule
from keras_squeeze.schedules.checks import is_number


class RankFraction(RankRule):
    """Keeps a fraction of the singular values, rounded, one at least.

    The fraction is one of the full rank, the smaller dimension of the matrix.
    A square matrix saves parameters below half of it.

    Args:
        fraction: Float in `(0, 1]`.

    Raises:
        SqueezeError: If `fraction` lies outside.

    Example:
    >>> RankFraction(0.25).rank(np.ones(64), rows=64, columns=256)
    16
    """

    reads_spectrum: ClassVar[bool] = False

    def __init__(self, fraction: float) -> None:
        self.fraction = check_share("fraction", fraction)

    def keep(self, values: NDArray[np.float64], rows: int, columns: int) -> int:
        """The fraction of the number of values."""
        return round(self.fraction * values.size)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal rule."""
        return {"fraction": self.fraction}


def check_share(name: str, value: Any) -> float:
    """Returns a share as a float, or raises `SqueezeError`.

    Args:
        name: String. The argument's name, for messages.
        value: Number in `(0, 1]`.

    Returns:
        Float.

    Raises:
        SqueezeError: If it lies outside.

    Example:
    >>> check_share("energy", 1)
    1.0
    """
    if not is_number(value) or not 0 < value <= 1:
        raise SqueezeError(
            f"Expected `{name}` to be a number in (0, 1]. Received: {value!r}"
        )
    return float(value)

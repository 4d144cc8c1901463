"""The rank the user names."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.low_rank.rank_rules import RankRule


class FixedRank(RankRule):
    """Keeps so many singular values, or all where a matrix has fewer.

    Args:
        rank: Integer of at least 1; or a tuple of them, one for each rank of
            methods that have as many, as Tucker-2 has two.

    Raises:
        SqueezeError: If `rank` is something else.

    Example:
    >>> import numpy as np
    >>> FixedRank(2).rank(np.array([3.0, 2.0, 1.0]), rows=3, columns=8)
    2
    """

    reads_spectrum: ClassVar[bool] = False

    def __init__(self, rank: int | Sequence[int]) -> None:
        many = isinstance(rank, tuple | list)
        given: tuple[Any, ...] = tuple(rank) if many else (rank,)  # type: ignore[arg-type]
        if not given or not all(_is_rank(item) for item in given):
            raise SqueezeError(
                "Expected `rank` to be an integer of at least 1, or a tuple "
                f"of them. Received: {rank!r}"
            )
        self.given = tuple(int(item) for item in given)
        self.rank_count = len(given) if many else None

    def ranks(
        self,
        spectra: Sequence[NDArray[Any]],
        unfoldings: Sequence[tuple[int, int]],
    ) -> tuple[int, ...]:
        """The ranks of a decomposition that has one for each unfolding.

        Args:
            spectra: Sequence of arrays, the singular values of each
                unfolding.
            unfoldings: Sequence of pairs, the rows and columns of each.

        Returns:
            Tuple of integers.

        Raises:
            SqueezeError: If the number of ranks is another one.
        """
        if self.rank_count is None:
            return super().ranks(spectra, unfoldings)
        if self.rank_count != len(spectra):
            raise SqueezeError(
                f"Expected a tuple of {len(spectra)} ranks for a method that "
                f"has so many. Received: {self.given}"
            )
        triples = zip(self.given, spectra, unfoldings, strict=True)
        return tuple(FixedRank(r).rank(s, *size) for r, s, size in triples)

    def keep(self, values: NDArray[np.float64], rows: int, columns: int) -> int:
        """The rank, or the largest of them for a single matrix."""
        return max(self.given)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal rule."""
        single = self.rank_count is None
        return {"rank": self.given[0] if single else self.given}


def _is_rank(value: Any) -> bool:
    integral = isinstance(value, numbers.Integral)
    return integral and not isinstance(value, bool) and int(value) >= 1

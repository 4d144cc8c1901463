"""The base of the rank rules, and the table of those known by name."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.identifiers import resolve, to_config
from keras_squeeze.registry import Registry
from keras_squeeze.schedules.checks import is_number


class RankRule(Configured):
    """Base of what reads a rank off the singular values of a matrix.

    Subclasses implement `keep`; the base checks what it is given and keeps
    the answer between one and the number of singular values.
    """

    #: Whether the spectrum decides. A rule that takes the rank from the user
    #: says nothing of the error, so that methods are compared at equal cost.
    reads_spectrum: ClassVar[bool] = True

    def rank(
        self, singular_values: NDArray[Any], rows: int, columns: int
    ) -> int:
        """The rank to keep.

        Args:
            singular_values: Array of shape `(min(rows, columns),)`, in
                descending order.
            rows: Integer. The rows of the matrix.
            columns: Integer. The columns of the matrix.

        Returns:
            Integer between 1 and the number of singular values.

        Raises:
            NonFiniteError: If a singular value is NaN or infinite.
            SqueezeError: If the values cannot be those of such a matrix.
        """
        values = checked_spectrum(singular_values, rows, columns)
        # Scaled to a largest value of one: squares neither over- nor underflow.
        scale = float(values[0])
        if scale > 0:
            values = values / scale
        kept = self.keep(values, int(rows), int(columns))
        return min(max(1, int(kept)), values.size)

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
            SqueezeError: If a spectrum does not fit its unfolding.
        """
        pairs = zip(spectra, unfoldings, strict=True)
        return tuple(self.rank(values, *size) for values, size in pairs)

    def keep(self, values: NDArray[np.float64], rows: int, columns: int) -> int:
        """How many of the values to keep; the base limits the answer.

        Args:
            values: Array of singular values, descending, float64, the first
                of which is one, or zero if all are.
            rows: Integer. The rows of the matrix.
            columns: Integer. The columns of the matrix.

        Returns:
            Integer.
        """
        raise NotImplementedError(
            f"Expected {type(self).__name__} to implement `keep`. "
            f"Received: a spectrum of {values.size} values"
        )


def checked_spectrum(
    singular_values: NDArray[Any], rows: int, columns: int
) -> NDArray[np.float64]:
    """The singular values as float64, if a matrix of that size can have them.

    Args:
        singular_values: Array of shape `(min(rows, columns),)`.
        rows: Integer. The rows of the matrix.
        columns: Integer. The columns of the matrix.

    Returns:
        Array of float64.

    Raises:
        NonFiniteError: If a value is NaN or infinite.
        SqueezeError: If they are too few or too many, negative or not in
            descending order.
    """
    values = np.asarray(singular_values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise NonFiniteError(
            "Expected finite singular values. Received: "
            f"{int((~np.isfinite(values)).sum())} that are NaN or infinite"
        )
    expected = min(rows, columns)
    if values.shape != (expected,) or expected < 1:
        raise SqueezeError(
            "Expected min(rows, columns) singular values, one at least. "
            f"Received: shape={values.shape}, rows={rows}, columns={columns}"
        )
    if values[-1] < 0 or (np.diff(values) > 0).any():
        raise SqueezeError(
            "Expected singular values in descending order, none negative. "
            f"Received: {values}"
        )
    return values


registry: Registry[RankRule] = Registry("rank rule")


def get(identifier: Any) -> RankRule:
    """Finds the rank rule that is meant.

    Args:
        identifier: An integer, the rank itself, or a tuple of integers, one
            for each rank of the method; a float in `(0, 1]`, the fraction of
            the full rank; a name; a dictionary with `"class_name"` and
            `"config"`; or a `RankRule`.

    Returns:
        A `RankRule`.

    Raises:
        UnknownIdentifierError: If there is no rule of that name.
        SqueezeError: If `identifier` is none of the above.

    Example:
    >>> get(16)
    FixedRank(rank=16)
    >>> get(0.25)
    RankFraction(fraction=0.25)
    >>> get("vbmf")
    VBMF()
    """
    is_tuple = isinstance(identifier, tuple | list)
    if is_tuple or isinstance(identifier, numbers.Integral):
        return registry.create("fixed", {"rank": identifier})
    if is_number(identifier):
        return registry.create("fraction", {"fraction": identifier})
    return resolve(registry, RankRule, identifier)


def serialize(rule: RankRule) -> dict[str, Any]:
    """The dictionary from which `get` makes an equal rule.

    Args:
        rule: A `RankRule` of a registered class.

    Returns:
        Dictionary with `"class_name"` and `"config"`, ready for JSON.

    Raises:
        SqueezeError: If the class is not registered.

    Example:
    >>> serialize(get(16))
    {'class_name': 'FixedRank', 'config': {'rank': 16}}
    """
    return to_config(registry, rule)

"""What a tensor is coded against: the base's, and the one before that."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_squeeze.artifact.manifest import TensorRecord
from keras_squeeze.artifact.momentum import Momentum, fit_momentum
from keras_squeeze.artifact.predicted_codes import predict_codes
from keras_squeeze.artifact.tensor_input import assemble
from keras_squeeze.codecs import dtypes
from keras_squeeze.codecs.dtypes import dtype_from_name


@dataclasses.dataclass(frozen=True)
class Reference:
    """A tensor of the base, decoded; picklable, for any executor.

    Args:
        record: `TensorRecord` of the base.
        arrays: Mapping of role to array, its decoded parts.
        previous: Optional `Reference`, the tensor that this one was coded
            against in its turn. Defaults to `None`.
    """

    record: TensorRecord
    arrays: Mapping[str, np.ndarray]
    previous: Reference | None = None

    @functools.cached_property
    def values(self) -> np.ndarray:
        """The tensor itself."""
        record = self.record
        return assemble(
            record.encoding,
            self.arrays,
            record.parameters,
            record.shape,
            record.dtype,
        )

    def alone(self) -> Reference:
        """The same without what came before it."""
        return dataclasses.replace(self, previous=None)

    def direction(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The values and those before them, if a step can be read off them.

        Returns:
            Pair of arrays of one shape and floating dtype, or `None`.
        """
        if self.previous is None:
            return None
        now, before = self.values, self.previous.values
        alike = now.shape == before.shape and now.dtype == before.dtype
        return (now, before) if alike and _is_real(now) else None

    def extrapolated(self, momentum: Momentum | None) -> np.ndarray | None:
        """Where the tensor would be if it went on as it came.

        Args:
            momentum: Optional `Momentum`; without it, where it is.

        Returns:
            Array of the tensor's shape and dtype, or `None` if there is no
            last step.
        """
        if momentum is None:
            return self.values
        found = self.direction()
        return None if found is None else momentum.extrapolate(*found)

    def momentum_towards(self, values: np.ndarray) -> Momentum | None:
        """The momentum that comes nearest to values, if there is any."""
        found = self.direction()
        if found is None or values.shape != found[0].shape:
            return None
        return fit_momentum(values, *found)


def array_for(
    role: str,
    dtype: str,
    shape: tuple[int, ...],
    encoding: str,
    parameters: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    reference: Reference,
    momentum: Momentum | None = None,
) -> np.ndarray | None:
    """The array that a part of a tensor is coded against.

    Args:
        role: String. The part's role.
        dtype: String. Name of the part's dtype.
        shape: Tuple of integers. The part's shape.
        encoding: String. The tensor's encoding.
        parameters: Mapping. The encoding's parameters.
        arrays: Mapping of role to array, the tensor's other parts.
        reference: `Reference`.
        momentum: Optional `Momentum`. Defaults to `None`.

    Returns:
        Array of that shape and dtype, or `None` if the base has none.
    """
    found: np.ndarray | None
    if role == "values":
        found = reference.extrapolated(momentum)
    elif role != "codes" or encoding == "packed":
        found = reference.arrays.get(role)
    elif momentum is None and _same_grid(
        encoding, parameters, arrays, reference
    ):
        found = reference.arrays["codes"]
    else:
        values = reference.extrapolated(momentum)
        if values is None or values.shape != shape or not _is_real(values):
            return None
        found = predict_codes(values, encoding, parameters, arrays, dtype)
    if found is None or found.shape != shape:
        return None
    return found if found.dtype == dtype_from_name(dtype) else None


def _same_grid(
    encoding: str,
    parameters: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    reference: Reference,
) -> bool:
    if encoding != reference.record.encoding:
        return False
    theirs = reference.record.parameters
    if {**parameters, "trellis": None} != {**theirs, "trellis": None}:
        return False
    return all(
        role == "codes" or (role in arrays and equal_bits(array, arrays[role]))
        for role, array in reference.arrays.items()
    )


def equal_bits(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays have equal shape, dtype and bits (NaN included)."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    patterns = dtypes.bit_patterns(first) == dtypes.bit_patterns(second)
    return bool(patterns.all())


def _is_real(values: np.ndarray) -> bool:
    return dtypes.is_float(values.dtype)

"""Sparsities by the names of kernels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.error_paths import path_in_errors
from keras_squeeze.pruning.grouped import check_reachable
from keras_squeeze.pruning.patterns import Pattern
from keras_squeeze.pruning.survivors import check_min_weights, most_gone
from keras_squeeze.schedules import Schedule, check_sparsity


class PerLayer(Configured):
    """Gives kernels sparsities of their own, found by regular expressions.

    A kernel takes the value of the first expression found in its path; all
    others take the sparsity of the whole. A plain dictionary given as an
    allocation is one of these.

    The values are sparsities. With a schedule they are those at its end, and
    each kernel follows the schedule in proportion: at a third of the final
    sparsity of the whole it has a third of its own. Where the end is not
    known, as with a schedule without `end_step`, they hold from the start.

    Args:
        sparsities: Dictionary of regular expressions and floats in `[0, 1)`.
        relative: Boolean. Whether the values are factors instead, of at least
            0, by which the sparsity of the whole is multiplied. Defaults to
            `False`.
        min_weights: Integer. So many weights survive in every kernel, all of
            them in kernels that have fewer. Defaults to `1`.
        final_sparsity: Optional float in `(0, 1)`. The sparsity of the whole
            at which the values are reached; `for_schedule` sets it. Defaults
            to `None`.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    >>> import numpy as np
    >>> kernels = [np.ones((20, 5)), np.ones((10, 10))]
    >>> names, axes = ["conv/kernel", "dense/kernel"], [(-1,), (-1,)]
    >>> allocation = PerLayer({"conv": 0.5})
    >>> pattern = ks.pruning.Unstructured()
    >>> allocation.sparsities(kernels, names, 0.9, pattern, axes)
    [0.5, 0.9]
    """

    needs_scores = False

    def __init__(
        self,
        sparsities: Mapping[str, float],
        relative: bool = False,
        min_weights: int = 1,
        final_sparsity: float | None = None,
    ) -> None:
        self.relative = bool(relative)
        self.values = _check_values(sparsities, self.relative)
        self.min_weights = check_min_weights(min_weights)
        if final_sparsity is not None:
            check_sparsity("final_sparsity", final_sparsity)
        self.final_sparsity = final_sparsity

    def for_schedule(self, schedule: Schedule) -> PerLayer:
        """The allocation whose values are reached when a schedule ends.

        Args:
            schedule: A `Schedule`.

        Returns:
            A `PerLayer`; this one, if there is nothing to know.

        Example:
        >>> ramp = ks.schedules.PolynomialDecay(0.0, 0.9, 0, 100)
        >>> PerLayer({"conv": 0.6}).for_schedule(ramp).final_sparsity
        0.9
        """
        known = self.relative or self.final_sparsity is not None
        if known or schedule.end_step is None:
            return self
        config = {**self.get_config(), "final_sparsity": schedule.final()}
        return PerLayer.from_config(config)

    def sparsities(
        self,
        scores: Sequence[NDArray[Any]],
        names: Sequence[str],
        sparsity: float,
        pattern: Pattern,
        channel_axes: Sequence[tuple[int, ...]],
    ) -> list[float]:
        """Gives each kernel its sparsity.

        Args:
            scores: Sequence of arrays, of which only the sizes count.
            names: Sequence of strings, the kernels' paths.
            sparsity: Float in `[0, 1)`. The sparsity of the whole.
            pattern: The `Pattern` that will make the masks.
            channel_axes: Sequence of tuples, the output axes of each kernel.

        Returns:
            List of floats in `[0, 1)`, one a kernel.

        Raises:
            SqueezeError: If an expression is found in no name, or the pattern
                does not have a sparsity.
        """
        sparsity = check_sparsity("sparsity", sparsity)
        self._check_names(names)
        found = []
        for kernel, name, axes in zip(scores, names, channel_axes, strict=True):
            wanted = self._sparsity_of(name, sparsity)
            with path_in_errors(name):
                most = most_gone(pattern, kernel.shape, axes, self.min_weights)
                wanted = min(wanted, most / max(1, kernel.size))
                found.append(check_reachable(pattern, wanted))
        return found

    def _sparsity_of(self, name: str, sparsity: float) -> float:
        for expression, value in self.values.items():
            if re.search(expression, name):
                if self.relative:
                    return value * sparsity
                if not self.final_sparsity:
                    return value
                return value * min(1.0, sparsity / self.final_sparsity)
        return sparsity

    def _check_names(self, names: Sequence[str]) -> None:
        for expression in self.values:
            if not any(re.search(expression, name) for name in names):
                raise SqueezeError(
                    "Expected each regular expression of the allocation to be "
                    f"found in a kernel's path, one of {list(names)}. "
                    f"Received: {expression!r}"
                )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal allocation."""
        return {
            "sparsities": dict(self.values),
            "relative": self.relative,
            "min_weights": self.min_weights,
            "final_sparsity": self.final_sparsity,
        }


def _check_values(values: Any, relative: bool) -> dict[str, float]:
    if not isinstance(values, Mapping) or not values:
        raise SqueezeError(
            "Expected an allocation per layer to be a dictionary of regular "
            "expressions and sparsities that is not empty. "
            f"Received: {values!r}"
        )
    checked = {}
    for expression, value in values.items():
        try:
            re.compile(expression)
        except (re.error, TypeError) as error:
            raise SqueezeError(
                f"Expected regular expressions as keys ({error}). "
                f"Received: {expression!r}"
            ) from error
        checked[expression] = _check_value(expression, value, relative)
    return checked


def _check_value(expression: str, value: Any, relative: bool) -> float:
    if not relative:
        return check_sparsity(f"sparsities[{expression!r}]", value)
    number = hasattr(type(value), "__float__") and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise SqueezeError(
            f"Expected the factor of {expression!r} to be a number of at least "
            f"0. Received: {value!r}"
        )
    return float(value)

"""The contract of a regrowth, and the table of those known by name."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning.identifiers import resolve, to_config
from keras_squeeze.pruning.patterns import Pattern
from keras_squeeze.pruning.unstructured import Unstructured
from keras_squeeze.registry import Registry


@runtime_checkable
class Regrowth(Protocol):
    """Lets pruned weights come back in place of kept ones.

    Class attributes, all optional:

    - `statistics`: tuple of names, as in `Criterion`. Defaults to `()`.
    - `keeps_pruned_weights`: boolean. Whether the values that pruned weights
      would have had are kept, and the scores computed on them. Defaults to
      `False`.
    - `keeps_pattern`: boolean. Whether a mask of any pattern is still one of
      that pattern afterwards. Defaults to `False`.
    """

    def regrow(
        self,
        keep: NDArray[np.bool_],
        scores: NDArray[Any],
        step: int,
        end_step: int | None,
        rng: np.random.Generator,
        **statistics: NDArray[Any],
    ) -> NDArray[np.bool_]:
        """Exchanges kept weights for pruned ones.

        Args:
            keep: Boolean array, the mask that the pattern made.
            scores: Array of its shape, the criterion's scores.
            step: Integer. The current step.
            end_step: Optional integer. The step from which on nothing changes
                any more, or `None` if there is none.
            rng: The `numpy.random.Generator` to draw from.
            **statistics: The arrays named in `statistics`.

        Returns:
            Boolean array with as many true values as `keep`.

        Raises:
            SqueezeError: If a statistic is missing.
        """
        ...


registry: Registry[Regrowth] = Registry("regrowth")


def get(identifier: Any) -> Regrowth:
    """Finds the regrowth that is meant.

    Args:
        identifier: A name, a dictionary with `"class_name"` and `"config"`,
            or an object with a `regrow` method.

    Returns:
        A `Regrowth`.

    Raises:
        UnknownIdentifierError: If there is no regrowth of that name.
        SqueezeError: If `identifier` is none of the above.

    Example:
    >>> get("rigl")
    RigL(fraction=0.3)
    """
    return resolve(registry, Regrowth, identifier)


def serialize(regrowth: Regrowth) -> dict[str, Any]:
    """The dictionary from which `get` makes an equal regrowth.

    Args:
        regrowth: A `Regrowth` of a registered class.

    Returns:
        Dictionary with `"class_name"` and `"config"`, ready for JSON.

    Raises:
        SqueezeError: If the class is not registered.

    Example:
    >>> serialize(get("set"))
    {'class_name': 'SET', 'config': {'fraction': 0.3}}
    """
    return to_config(registry, regrowth)


def check_pattern(regrowth: Regrowth, pattern: Pattern) -> None:
    """Refuses a regrowth that would break the masks of a pattern.

    Args:
        regrowth: A `Regrowth`.
        pattern: The `Pattern` that makes the masks.

    Raises:
        SqueezeError: If the regrowth exchanges single weights and the pattern
            is a structured one.

    Example:
    >>> check_pattern(get("splicing"), Unstructured())
    """
    free = isinstance(pattern, Unstructured) and not pattern.per_channel
    if not free and not getattr(regrowth, "keeps_pattern", False):
        raise SqueezeError(
            "Expected the pattern 'unstructured' together with a regrowth that "
            f"exchanges single weights. Received: {pattern!r} with {regrowth!r}"
        )

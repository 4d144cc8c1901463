"""The contract of a criterion, and the table of those known by name."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.identifiers import resolve, to_config
from keras_squeeze.registry import Registry


@runtime_checkable
class Criterion(Protocol):
    """Ranks the weights of one kernel by how much they matter.

    A class attribute `statistics`, a tuple of names, says what has to be
    gathered while the model trains; a class without it needs nothing but the
    kernel. The names, all averages over the steps since the masks last
    changed, as arrays that broadcast to the kernel's shape:

    - `"gradient"`: the mean of the gradient g.
    - `"gradient_l1"`: the mean of |g|.
    - `"gradient_l2"`: the root of the mean of g².
    - `"gradient_times_weight"`: the mean of g · w.
    - `"activation"`: the root mean square of the layer's input, along the
      kernel's input axis: `(inputs, 1)` for Dense, `(1, 1, inputs, 1)` for
      Conv2D.
    - `"scale"`: |gamma| of the normalization that follows the layer, along
      the kernel's output channels.
    """

    def scores(
        self, kernel: NDArray[Any], **statistics: NDArray[Any]
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight a score; the higher, the more it matters.

        Args:
            kernel: Array of floating-point weights, of any shape.
            **statistics: The arrays named in `statistics`.

        Returns:
            New floating-point array of the kernel's shape. Weights that are
            zero have the lowest score, which may be minus infinity, so that
            those once pruned stay pruned while the sparsity grows.

        Raises:
            SqueezeError: If a statistic is missing.
        """
        ...


registry: Registry[Criterion] = Registry("pruning criterion")


def get(identifier: Any) -> Criterion:
    """Finds the criterion that is meant.

    Args:
        identifier: A name, a dictionary with `"class_name"` and `"config"`,
            or an object with a `scores` method.

    Returns:
        A `Criterion`.

    Raises:
        UnknownIdentifierError: If there is no criterion of that name.
        SqueezeError: If `identifier` is none of the above.

    Example:
    >>> get("magnitude")
    Magnitude()
    """
    return resolve(registry, Criterion, identifier)


def serialize(criterion: Criterion) -> dict[str, Any]:
    """The dictionary from which `get` makes an equal criterion.

    Args:
        criterion: A `Criterion` of a registered class.

    Returns:
        Dictionary with `"class_name"` and `"config"`, ready for JSON.

    Raises:
        SqueezeError: If the class is not registered.

    Example:
    >>> serialize(get("magnitude"))
    {'class_name': 'Magnitude', 'config': {}}
    """
    return to_config(registry, criterion)

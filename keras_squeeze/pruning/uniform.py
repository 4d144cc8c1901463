"""The same sparsity for every kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.error_paths import path_in_errors
from keras_squeeze.pruning.grouped import check_reachable
from keras_squeeze.pruning.patterns import Pattern
from keras_squeeze.pruning.survivors import check_min_weights, most_gone


class Uniform(Configured):
    """Gives every kernel the sparsity of the whole.

    Args:
        min_weights: Integer. So many weights survive in every kernel, all of
            them in kernels that have fewer. Defaults to `1`.

    Example:
    >>> import numpy as np
    >>> kernels = [np.ones((4, 5)), np.ones((2, 2))]
    >>> axes = [(-1,), (-1,)]
    >>> pattern = ks.pruning.Unstructured()
    >>> Uniform(2).sparsities(kernels, ["a", "b"], 0.8, pattern, axes)
    [0.8, 0.5]
    """

    needs_scores = False

    def __init__(self, min_weights: int = 1) -> None:
        self.min_weights = check_min_weights(min_weights)

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
            sparsity: Float in `[0, 1)`. The sparsity of each kernel.
            pattern: The `Pattern` that will make the masks.
            channel_axes: Sequence of tuples, the output axes of each kernel.

        Returns:
            List of floats, lower than `sparsity` where `min_weights` ask for
            it.

        Raises:
            SqueezeError: If the pattern does not have that sparsity.
        """
        sparsity = check_reachable(pattern, sparsity)
        found = []
        for kernel, name, axes in zip(scores, names, channel_axes, strict=True):
            with path_in_errors(name):
                most = most_gone(pattern, kernel.shape, axes, self.min_weights)
            found.append(min(sparsity, most / max(1, kernel.size)))
        return found

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal allocation."""
        return {"min_weights": self.min_weights}

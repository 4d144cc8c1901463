"""The sparsity that every kernel has already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.error_paths import path_in_errors
from keras_squeeze.pruning.patterns import Pattern
from keras_squeeze.pruning.survivors import most_gone


class PresentSparsity(Configured):
    """Gives every kernel the share of its scores that are zero.

    With magnitudes as scores, the masks are those of the weights that are
    zero: nothing more is pruned, and nothing grows back. One weight survives
    in every kernel.

    Example:
    >>> scores = [np.array([[0.0, 2.0], [1.0, 0.0]]), np.ones((2, 2))]
    >>> axes = [(-1,), (-1,)]
    >>> pattern = ks.pruning.Unstructured()
    >>> PresentSparsity().sparsities(scores, ["a", "b"], 0.0, pattern, axes)
    [0.5, 0.0]
    """

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
            scores: Sequence of arrays, the scores of each kernel; those of
                weights pruned before may be negative.
            names: Sequence of strings, the kernels' paths.
            sparsity: Float. Not looked at.
            pattern: The `Pattern` that will make the masks.
            channel_axes: Sequence of tuples, the output axes of each kernel.

        Returns:
            List of floats.
        """
        found = []
        for score, name, axes in zip(scores, names, channel_axes, strict=True):
            gone = int(np.count_nonzero(np.asarray(score) <= 0))
            with path_in_errors(name):
                most = most_gone(pattern, score.shape, axes, 1)
            found.append(min(gone, most) / max(1, score.size))
        return found

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal allocation."""
        return {}

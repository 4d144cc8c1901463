"""Large kernels become sparser than small ones, by their shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning import ranking
from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.error_paths import path_in_errors
from keras_squeeze.pruning.grouped import check_reachable
from keras_squeeze.pruning.patterns import GroupedPattern, Pattern
from keras_squeeze.pruning.survivors import check_min_weights, most_gone


class ErdosRenyiKernel(Configured):
    """Shares the weights left out by the dimensions of the kernels.

    The share of weights that a kernel keeps is proportional to the sum of its
    dimensions over their product, so that the number of weights grows with
    the sum of inputs, outputs and window instead of their product. Kernels
    that would keep more than they have stay dense, and the others keep less
    instead; the total is exact to one weight.

    Args:
        min_weights: Integer. So many weights survive in every kernel, all of
            them in kernels that have fewer. Defaults to `1`.

    Example:
    >>> kernels = [np.ones((8, 8)), np.ones((64, 64))]
    >>> axes = [(-1,), (-1,)]
    >>> pattern = ks.pruning.Unstructured()
    >>> ErdosRenyiKernel().sparsities(kernels, ["a", "b"], 0.9, pattern, axes)
    [0.28125, 0.90966796875]

    References:
        [Mocanu et al., 2018](https://arxiv.org/abs/1707.04780),
        [Evci et al., 2020](https://arxiv.org/abs/1911.11134)
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
            scores: Sequence of arrays, of which only the shapes count.
            names: Sequence of strings, the kernels' paths.
            sparsity: Float in `[0, 1)`. The sparsity of all together.
            pattern: The `Pattern` that will make the masks.
            channel_axes: Sequence of tuples, the output axes of each kernel.

        Returns:
            List of floats in `[0, 1)`, one a kernel.

        Raises:
            SqueezeError: If the pattern does not have that sparsity.
        """
        sparsity = check_reachable(pattern, sparsity)
        shapes = [tuple(kernel.shape) for kernel in scores]
        sizes = np.array([kernel.size for kernel in scores], dtype=np.float64)
        least = []
        for size, shape, name, axes in zip(
            sizes, shapes, names, channel_axes, strict=True
        ):
            with path_in_errors(name):
                staying = _staying(pattern, shape, axes)
                most = most_gone(pattern, shape, axes, self.min_weights)
            least.append(max(size - most, staying))
        # Proportional to the sum over the product, times the size: the sum.
        shares = np.array([sum(shape) for shape in shapes], dtype=np.float64)
        target = round((1 - sparsity) * float(sizes.sum()))
        kept = _shared_out(shares, np.array(least), sizes, target)
        return [
            float(1 - count / size) if size else 0.0
            for count, size in zip(kept, sizes, strict=True)
        ]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal allocation."""
        return {"min_weights": self.min_weights}


def _staying(
    pattern: Pattern, shape: tuple[int, ...], axes: tuple[int, ...]
) -> float:
    """The weights that stay at the highest sparsity the pattern has."""
    if not isinstance(pattern, GroupedPattern):
        return 1.0
    sizes = pattern.group_sizes(shape, axes)
    total = float(np.prod(shape))
    size = ranking.common_size(sizes)
    if size is not None:
        return total - size * ranking.most_groups(sizes, int(total))
    gone = float(sizes.sum())
    return total - gone + (float(sizes.max()) if gone >= total else 0.0)


def _shared_out(
    shares: NDArray[np.float64],
    least: NDArray[np.float64],
    most: NDArray[np.float64],
    target: int,
) -> NDArray[np.float64]:
    """Whole numbers near `factor * shares`, within bounds, of sum `target`."""
    target = int(np.clip(target, np.ceil(least).sum(), most.sum()))
    low, high = 0.0, float(np.max(most / np.maximum(shares, 1), initial=0.0))
    # The sum grows with the factor: halving finds it, whatever is at a bound.
    for _ in range(100):
        factor = (low + high) / 2
        if np.clip(factor * shares, least, most).sum() < target:
            low = factor
        else:
            high = factor
    exact = np.clip(high * shares, least, most)
    kept = np.floor(exact)
    # Largest remainders first; of equal ones the earlier.
    order = np.argsort(kept - exact, kind="stable")
    more = int(target - kept.sum())
    candidates = [k for k in order if kept[k] < most[k]]
    kept[candidates[:more]] += 1
    return kept

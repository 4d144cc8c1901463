"""From weights and statistics to the masks of all kernels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking.plan import PruningPlan, needed
from keras_squeeze.surgery.kernel_quantization import channel_axis
from keras_squeeze.surgery.layer_tree import Kernel


@dataclasses.dataclass(frozen=True)
class KernelValues:
    """What the mask of one kernel is chosen from.

    Args:
        kernel: `Kernel`.
        weights: Array, with the values that pruned weights keep.
        keep: Boolean array, the mask in force.
        statistics: Mapping from name to array.
    """

    kernel: Kernel
    weights: NDArray[Any]
    keep: NDArray[np.bool_]
    statistics: Mapping[str, NDArray[Any]]


def choose_masks(
    plan: PruningPlan,
    values: list[KernelValues],
    sparsity: float,
    step: int,
    end_step: int | None,
) -> list[NDArray[np.bool_]]:
    """Scores all kernels, shares the sparsity out, and picks the masks.

    Unless weights may grow back, those pruned before are pruned first.

    Args:
        plan: `PruningPlan`.
        values: List of `KernelValues`.
        sparsity: Float in `[0, 1)`. The sparsity of all kernels together.
        step: Integer. The step at which the masks change.
        end_step: Optional integer. The step of the last change.

    Returns:
        List of boolean arrays, true where a weight stays.

    Raises:
        SqueezeError: If criterion, pattern, allocation or regrowth refuse.
    """
    kernels = [one.kernel for one in values]
    if is_dense(plan, kernels, sparsity):
        return [np.ones(one.keep.shape, bool) for one in values]
    scores = [score(plan, one) for one in values]
    keeps = pick(plan, kernels, scores, sparsity).masks
    if plan.regrowth is None or all(one.keep.all() for one in values):
        # The first masks come from the criterion alone: nothing that was
        # pruned could grow back.
        return keeps
    return [
        plan.regrowth.regrow(
            keep,
            score,
            step,
            end_step,
            # Made anew each time: a resumed training draws the same.
            np.random.default_rng([plan.seed, step, index]),
            **_chosen(plan.regrowth, one),
        )
        for index, (keep, score, one) in enumerate(
            zip(keeps, scores, values, strict=True)
        )
    ]


@dataclasses.dataclass(frozen=True)
class Picked:
    """Masks and the sparsities they were made for.

    Args:
        masks: List of boolean arrays, true where a weight stays.
        sparsities: List of floats, one a kernel.
    """

    masks: list[NDArray[np.bool_]]
    sparsities: list[float]


def pick(
    plan: PruningPlan,
    kernels: list[Kernel],
    scores: list[NDArray[Any]],
    sparsity: float,
) -> Picked:
    """Shares a sparsity out among kernels and picks their masks.

    Args:
        plan: `PruningPlan`.
        kernels: List of `Kernel`.
        scores: List of arrays, a score a weight.
        sparsity: Float in `[0, 1)`. The sparsity of all kernels together.

    Returns:
        `Picked`.

    Raises:
        SqueezeError: If the allocation cannot share it out, or the pattern
            does not fit a kernel, whose path the message begins with.
    """
    axes = [channel_axis(kernel) for kernel in kernels]
    names = [kernel.path for kernel in kernels]
    shares = plan.allocation.sparsities(
        scores, names, sparsity, plan.pattern, axes
    )
    masks = []
    for name, score, share, axis in zip(
        names, scores, shares, axes, strict=True
    ):
        try:
            masks.append(plan.pattern.mask(score, share, axis))
        except SqueezeError as error:
            raise SqueezeError(f"{name}: {error}") from error
    return Picked(masks, shares)


def is_dense(plan: PruningPlan, kernels: list[Kernel], sparsity: float) -> bool:
    """Whether nothing goes at a sparsity: of `0.0`, and in every kernel.

    Args:
        plan: `PruningPlan`, whose allocation may prune single kernels even
            where the sparsity of the whole is zero.
        kernels: List of `Kernel`.
        sparsity: Float in `[0, 1)`.

    Returns:
        Boolean.
    """
    if sparsity:
        return False
    axes = [channel_axis(kernel) for kernel in kernels]
    names = [kernel.path for kernel in kernels]
    shares = plan.allocation.sparsities(
        _zeros(kernels), names, sparsity, plan.pattern, axes
    )
    return not any(shares)


def check_fit(
    plan: PruningPlan, kernels: list[Kernel], sparsity: float
) -> None:
    """Raises early what `choose_masks` would raise at some later step.

    Args:
        plan: `PruningPlan`.
        kernels: List of `Kernel`.
        sparsity: Float in `[0, 1)`, the highest that will be asked for.
    """
    pick(plan, kernels, _zeros(kernels), sparsity)


def _zeros(kernels: list[Kernel]) -> list[NDArray[Any]]:
    # Views of one zero, whatever the shape.
    zero = np.float32(0)
    shapes = [tuple(kernel.variable.shape) for kernel in kernels]
    return [np.broadcast_to(zero, shape) for shape in shapes]


def score(plan: PruningPlan, one: KernelValues) -> NDArray[Any]:
    """Scores one kernel, weights pruned before lowest.

    Args:
        plan: `PruningPlan`.
        one: `KernelValues`.

    Returns:
        Array of the kernel's shape.
    """
    scores = plan.criterion.scores(one.weights, **_chosen(plan.criterion, one))
    if plan.keeps_pruned_weights or one.keep.all():
        return scores
    return np.where(one.keep, scores, -np.inf)


def _chosen(user: Any, one: KernelValues) -> dict[str, NDArray[Any]]:
    return {
        name: one.statistics[name]
        for name in needed(user)
        if name in one.statistics
    }

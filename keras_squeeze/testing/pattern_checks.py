"""What every pattern must do, as one callable check."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning.patterns import GroupedPattern, Pattern
from keras_squeeze.testing.expectations import check_config, expect

_SHAPES = ((8, 12), (3, 3, 8, 4), (9, 7))
_SHARES = (0.0, 0.01, 0.25, 0.5, 0.77, 0.999)


def check_pattern(
    pattern: Pattern, shapes: Iterable[tuple[int, ...]] = _SHAPES
) -> None:
    """Checks that a pattern keeps the contract of `pruning.Pattern`.

    Masks are boolean and of the kernel's shape; a sparsity of zero keeps all
    weights and no sparsity removes all; what goes at one sparsity goes at
    every higher one; weights pruned before, of the lowest scores, stay
    pruned; scores that are all equal, hold NaN or are not contiguous are
    taken; a sparsity that cannot be had raises `SqueezeError`; the config
    makes an equal pattern. Where the pattern ranks groups, as many weights go
    as groups of the lowest scores hold, to the group nearest the sparsity.

    Args:
        pattern: The `Pattern` to check.
        shapes: Iterable of shapes that the pattern fits. Defaults to a Dense
            kernel, one of a convolution, and one whose axes are no multiples
            of anything.

    Raises:
        AssertionError: If the pattern breaks the contract.

    Example:
    >>> from keras_squeeze import pruning, testing
    >>> testing.check_pattern(pruning.Unstructured())
    """
    check_config(pattern)
    highest = getattr(pattern, "max_sparsity", 1.0)
    shares = [share * min(highest, 1.0) for share in _SHARES]
    random = np.random.default_rng(0)
    for shape in shapes:
        scores = random.permutation(np.prod(shape)).astype(np.float32)
        scores = scores.reshape(shape) + np.float32(0.5)
        for each in (scores, np.zeros(shape, np.float32), scores.T.copy().T):
            _check_masks(pattern, each, shares)
        _check_nan(pattern, scores)
        if isinstance(pattern, GroupedPattern):
            _check_groups(pattern, scores, shares)
    _check_refusals(pattern, scores, highest)


def _check_masks(
    pattern: Pattern, scores: NDArray[Any], shares: list[float]
) -> None:
    before, last = scores.copy(), np.ones(scores.shape, bool)
    for share in shares:
        keep = pattern.mask(scores, share)
        what = f"at sparsity {share:.4g} of a kernel {scores.shape}"
        expect(keep.dtype == bool, f"a boolean mask {what}", keep.dtype)
        expect(keep.shape == scores.shape, f"its shape {what}", keep.shape)
        expect(keep.any(), f"a weight that stays {what}", keep)
        expect(share > 0 or keep.all(), f"all weights {what}", keep)
        expect(not (keep & ~last).any(), f"nested masks {what}", keep)
        again = pattern.mask(np.where(last, scores, -np.inf), share)
        expect(not (again & ~last).any(), f"weights to stay pruned {what}", 0)
        again = pattern.mask(scores, share)
        expect(np.array_equal(again, keep), f"equal masks {what}", again)
        last = keep
    expect(np.array_equal(before, scores), "untouched scores", scores)


def _check_nan(pattern: Pattern, scores: NDArray[Any]) -> None:
    scores = scores.copy()
    scores.flat[:3] = np.nan
    keep = pattern.mask(scores, 0.4 * getattr(pattern, "max_sparsity", 1.0))
    expect(keep.any() and not keep.all(), "a mask where scores are NaN", keep)


def _check_groups(
    pattern: GroupedPattern, scores: NDArray[Any], shares: list[float]
) -> None:
    groups = pattern.group_scores(scores)
    sizes = pattern.group_sizes(scores.shape)
    expect(groups.ndim == 1, "one dimension of group scores", groups.shape)
    expect(groups.shape == sizes.shape, f"{groups.shape} sizes", sizes.shape)
    expect(bool((sizes > 0).all()), "groups that hold weights", sizes)
    whole = int(sizes.sum())
    expect(whole <= scores.size, "groups within the kernel", whole)
    sums = {0, *np.cumsum(sizes[np.argsort(groups, kind="stable")]).tolist()}
    for share in shares:
        keep = pattern.mask(scores, share)
        gone = keep.size - int(np.count_nonzero(keep))
        expect(gone in sums, f"whole groups to go at {share:.4g}", gone)
        off = abs(gone - min(share * keep.size, whole))
        # One group stays in any case.
        expect(off <= int(sizes.max()), f"the sparsity {share:.4g}", gone)


def _check_refusals(
    pattern: Pattern, scores: NDArray[Any], highest: float
) -> None:
    for share in (-0.1, 1.0, float("nan"), *([highest + 0.01] * (highest < 1))):
        try:
            pattern.mask(scores, share)
        except SqueezeError:
            continue
        raise AssertionError(
            f"Expected a SqueezeError at sparsity {share}. Received: a mask"
        )

"""Which groups of channels go."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import NoKernelMatchedError, SqueezeError
from keras_squeeze.pruning import criteria
from keras_squeeze.shrinking.channels import Ids
from keras_squeeze.shrinking.trace import FILTER, PRODUCER, Trace, Width
from keras_squeeze.surgery.layer_tree import Filters


class Candidates:
    """The groups of a trace that layers make, and how they hang together.

    Args:
        trace: `Trace`.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.roots = trace.groups.roots()
        self.locks = trace.groups.locks()
        self.outputs = {
            width.path: width for width in trace.widths if width.is_output
        }

    def roots_of(self, width: Width) -> Ids:
        """The groups of the channels that a width counts."""
        return self.roots[width.ids]

    def free(self) -> set[int]:
        """The groups that no layer forbids to remove."""
        made = {
            root
            for width in self.outputs.values()
            for root in self.roots_of(width).tolist()
        }
        return made - set(self.locks)

    def without_effect(self, exact: bool) -> set[int]:
        """Groups whose removal can be made good.

        Args:
            exact: Boolean. Whether constants must be zero or become part of
                a bias; else every constant will do.

        Returns:
            Set of roots.
        """
        varying: set[int] = set()
        for use in self.trace.uses:
            fine = use.unread | (use.constants == 0)
            single = self.trace.calls[id(use.layer)] == 1
            if not exact or (use.fold is not None and single):
                fine |= ~np.isnan(use.constants)
            varying.update(self.roots[use.ids[~fine]].tolist())
        return self.free() - varying

    def silent(self) -> set[int]:
        """Groups of which no kernel makes anything."""
        loud: set[int] = set()
        for binding in self.trace.bindings:
            if binding.role == PRODUCER:
                rest = tuple(
                    i
                    for i in range(len(binding.variable.shape))
                    if i != binding.axis
                )
                made = self.trace.value(binding.variable).any(axis=rest)
                loud.update(self.roots[binding.ids[made]].tolist())
        return self.free() - loud

    def named(self, channels: Mapping[str, Iterable[int]]) -> set[int]:
        """The groups of channels that a user names.

        Args:
            channels: Mapping of a layer's path to the indices of its outputs.

        Returns:
            Set of roots.

        Raises:
            SqueezeError: If a path or an index does not exist, or a channel
                cannot be removed.
        """
        found: set[int] = set()
        for path, indices in channels.items():
            for root in self._indexed(path, indices).tolist():
                if root in self.locks:
                    where, reason = self.locks[root]
                    raise SqueezeError(
                        "Expected channels that can be removed, but those of "
                        f"{path!r} cannot: {reason} ({where or 'model'}). "
                        f"Received: channels of {path!r}"
                    )
                found.add(root)
        self._check_rest(found)
        return found

    def _indexed(self, path: str, indices: Iterable[int]) -> Ids:
        if path not in self.outputs:
            raise SqueezeError(
                "Expected the path of a layer whose channels are known: "
                f"{sorted(self.outputs)}. Received: {path!r}"
            )
        roots = self.roots_of(self.outputs[path])
        chosen = np.asarray(list(indices), np.int64)
        if len(chosen) and not (
            -len(roots) <= chosen.min() and chosen.max() < len(roots)
        ):
            raise SqueezeError(
                f"Expected indices of the {len(roots)} channels of {path!r}. "
                f"Received: {chosen.tolist()}"
            )
        return roots[chosen]

    def _check_rest(self, removed: set[int]) -> None:
        for path, width in self.outputs.items():
            if removed.issuperset(self.roots_of(width).tolist()):
                raise SqueezeError(
                    "Expected at least one channel to stay in every layer. "
                    f"Received: all {len(width.ids)} channels of {path!r}"
                )

    def scores(self, criterion: Any) -> dict[int, float]:
        """How much each group matters.

        Args:
            criterion: A pruning criterion that needs the kernel alone.

        Returns:
            Dictionary of root to the mean, over all its weights' layers, of
            its share of the layer's scores.
        """
        chosen = criteria.get(criterion)
        sums = np.zeros(len(self.roots))
        counts = np.zeros(len(self.roots))
        for binding in self.trace.bindings:
            if binding.role not in (PRODUCER, FILTER):
                continue
            values = np.asarray(
                chosen.scores(self.trace.value(binding.variable))
            )
            rest = tuple(i for i in range(values.ndim) if i != binding.axis)
            means = values.mean(axis=rest, dtype=np.float64)
            # Layers have scales of their own; a group may live in several.
            size = np.abs(means[np.isfinite(means)])
            means = means / (size.mean() if size.any() else 1.0)
            np.add.at(sums, self.roots[binding.ids], means)
            np.add.at(counts, self.roots[binding.ids], 1)
        made = np.flatnonzero(counts)
        return {int(r): float(sums[r] / counts[r]) for r in made}

    def blocks(self) -> list[list[int]]:
        """The free groups, together with those that live in the same layers.

        Returns:
            List of lists of roots, by position.
        """
        layers: dict[int, list[int]] = collections.defaultdict(list)
        for i, width in enumerate(self.outputs.values()):
            for root in dict.fromkeys(self.roots_of(width).tolist()):
                layers[root].append(i)
        found: dict[tuple[int, ...], list[int]] = collections.defaultdict(list)
        free = self.free()
        for root, where in layers.items():
            if root in free:
                found[tuple(where)].append(root)
        return list(found.values())

    def matching(self, filters: Filters) -> list[list[int]]:
        """The blocks whose layers all pass a filter.

        Args:
            filters: Regex searched in paths, callable `layer -> bool`, or
                `None` for all.

        Returns:
            List of lists of roots.

        Raises:
            NoKernelMatchedError: If none is left.
        """
        blocked = {
            root
            for width in self.outputs.values()
            if not _passes(width, filters)
            for root in self.roots_of(width).tolist()
        }
        found = [b for b in self.blocks() if blocked.isdisjoint(b)]
        if filters is not None and not found:
            raise NoKernelMatchedError(
                "Expected `filters` to leave layers whose channels can go, "
                "and all layers that share them. Candidates: "
                f"{sorted(self.outputs)}. Received: {filters!r}"
            )
        return found

    def multiplicity(self, block: list[int]) -> int:
        """How many channels of one layer a group of this block holds."""
        counts = [
            int((self.roots_of(width) == block[0]).sum())
            for width in self.outputs.values()
        ]
        return max(counts)


def _passes(width: Width, filters: Filters) -> bool:
    if callable(filters):
        return bool(filters(width.layer))
    return filters is None or re.search(filters, width.path) is not None


def lowest(
    candidates: Candidates,
    share: float,
    scores: Mapping[int, float],
    filters: Filters = None,
) -> set[int]:
    """The groups that matter least, the same share of each block.

    Args:
        candidates: `Candidates`.
        share: Float in [0, 1).
        scores: Mapping of root to score.
        filters: Optional regex or callable, which every layer that makes
            the channels must pass.

    Returns:
        Set of roots.

    Raises:
        NoKernelMatchedError: If `filters` leaves no layer.
        SqueezeError: If `share` is out of its range.
    """
    if not 0 <= share < 1:
        raise SqueezeError(
            f"Expected `sparsity` to be in [0, 1). Received: {share!r}"
        )
    found: set[int] = set()
    for block in candidates.matching(filters):
        ranked = sorted(block, key=lambda root: scores.get(root, 0.0))
        found.update(ranked[: min(round(share * len(block)), len(block) - 1)])
    return found


def rounded(
    candidates: Candidates,
    removed: set[int],
    round_to: int,
    scores: Mapping[int, float],
) -> set[int]:
    """Gives back channels until widths are multiples, and none is zero.

    Args:
        candidates: `Candidates`.
        removed: Set of roots.
        round_to: Integer from 1.
        scores: Mapping of root to score: the best come back first.

    Returns:
        Set of roots, a part of `removed`.
    """
    found = set(removed)
    for block in candidates.blocks():
        gone = [root for root in block if root in found]
        if not gone:
            continue
        size = candidates.multiplicity(block)
        step = round_to // math.gcd(round_to, size)
        kept = max(len(block) - len(gone), 1)
        kept = min(math.ceil(kept / step) * step, len(block))
        gone.sort(key=lambda root: scores.get(root, 0.0))
        found.difference_update(gone[len(block) - kept :])
    return found


def mark(candidates: Candidates, removed: set[int]) -> NDArray[np.bool_]:
    """A set of groups as an array.

    Args:
        candidates: `Candidates`.
        removed: Set of roots.

    Returns:
        Boolean array, indexed by channel id.
    """
    return np.isin(candidates.roots, sorted(removed))

"""From what a user asks for to the groups of channels that go."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_squeeze.errors import SqueezeError, UnsupportedModelError
from keras_squeeze.shrinking.rebuilding import Cut
from keras_squeeze.shrinking.selection import (
    Candidates,
    lowest,
    mark,
    rounded,
)
from keras_squeeze.shrinking.tracing import trace_model
from keras_squeeze.surgery.layer_tree import Filters, check_built

ChannelIndices = Mapping[str, Iterable[int]]


@dataclasses.dataclass(frozen=True)
class Choice:
    """The channels that go, and those that had to stay.

    Args:
        cut: `Cut`.
        candidates: `Candidates` of the trace that the cut was made from.
        stayed: Set of groups that were asked for and stay.
    """

    cut: Cut
    candidates: Candidates
    stayed: frozenset[int]

    def indices(self) -> dict[str, list[int]]:
        """The channels that go, by the path of the layer that makes them."""
        found = {}
        for path, width in self.candidates.outputs.items():
            gone = np.flatnonzero(self.cut.removed[width.ids]).tolist()
            if gone:
                found[path] = gone
        return found


@dataclasses.dataclass(frozen=True)
class Request:
    """What a user asks for; `shrink` explains each.

    Args:
        channels: Optional mapping of a layer's path to indices.
        sparsity: Optional float.
        criterion: A pruning criterion.
        filters: Optional regex or callable.
        round_to: Integer.
        exact: Boolean.
    """

    channels: ChannelIndices | None = None
    sparsity: float | None = None
    criterion: Any = "magnitude"
    filters: Filters = None
    round_to: int = 1
    exact: bool = True

    def check(self) -> None:
        """Raises `SqueezeError` if an argument is out of its range."""
        if self.channels is not None and self.sparsity is not None:
            raise SqueezeError(
                "Expected `channels` or `sparsity`, not both. "
                f"Received: sparsity={self.sparsity!r}"
            )
        if not isinstance(self.round_to, int) or self.round_to < 1:
            raise SqueezeError(
                "Expected `round_to` to be an integer from 1. "
                f"Received: {self.round_to!r}"
            )


def choose_channels(
    model: Any,
    sparsity: float | None = None,
    criterion: Any = "magnitude",
    filters: Filters = None,
    round_to: int = 1,
    exact: bool = True,
) -> dict[str, list[int]]:
    """Chooses the channels that `shrink` with these arguments removes.

    Args:
        model: A built Sequential or Functional `keras.Model`.
        sparsity: Optional float in [0, 1), the share of the channels.
            `None` chooses those that are constant already. Defaults to
            `None`.
        criterion: A pruning criterion that needs the kernel alone. Defaults
            to `"magnitude"`.
        filters: Optional regex or callable. See `shrink`. Defaults to
            `None`.
        round_to: Integer. What remains is a multiple. Defaults to `1`.
        exact: Boolean. See `shrink`. Defaults to `True`.

    Returns:
        Dictionary of the path of a layer to the indices of its channels.

    Raises:
        SqueezeError: If an argument is out of its range.
        UnbuiltModelError: If the model has no variables yet.
        UnsupportedModelError: If the model is no graph of layers.

    Example:
    >>> import keras, numpy as np
    >>> model = keras.Sequential(
    ...     [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(2)]
    ... )
    >>> kernel = np.ones((3, 4)) * [4, 1, 2, 3]
    >>> model.layers[0].set_weights([kernel, np.zeros(4)])
    >>> list(choose_channels(model, sparsity=0.5).values())
    [[1, 2]]
    """
    check_built(model)
    request = Request(None, sparsity, criterion, filters, round_to, exact)
    choice = choose(model, request)
    if choice is None:
        raise no_graph(model)
    return choice.indices()


def no_graph(model: Any) -> UnsupportedModelError:
    """The error for models whose calls cannot be followed."""
    return UnsupportedModelError(
        "Expected a Sequential or Functional model, or a class of your own "
        "with their `__init__` and `call`: only a graph that a config "
        f"describes can be followed. Received: {type(model).__name__}"
    )


def choose(model: Any, request: Request) -> Choice | None:
    """Chooses the groups of channels that go.

    Args:
        model: A built `keras.Model`.
        request: `Request`.

    Returns:
        `Choice`, or `None` if the model is no graph of layers.

    Raises:
        SqueezeError: If an argument is out of its range, or a channel that
            is named cannot be removed.
    """
    request.check()
    trace = trace_model(model)
    if trace is None:
        return None
    candidates = Candidates(trace)
    scores: dict[int, float] = {}
    if request.sparsity is not None or request.round_to > 1:
        scores = candidates.scores(request.criterion)
    if request.channels is not None:
        asked = candidates.named(request.channels)
    elif request.sparsity is not None:
        asked = lowest(candidates, request.sparsity, scores, request.filters)
    else:
        asked = candidates.without_effect(exact=False) | candidates.silent()
        if request.exact:
            return _as_found(candidates, asked, request, scores)
    return _masked(model, candidates, asked, request, scores)


def _as_found(
    candidates: Candidates,
    asked: set[int],
    request: Request,
    scores: Mapping[int, float],
) -> Choice:
    """Masks nothing: what can go exactly goes, constants are moved."""
    fine = candidates.without_effect(exact=True)
    removed = rounded(candidates, fine, request.round_to, scores)
    cut = Cut(candidates.trace, mark(candidates, removed))
    return Choice(cut, candidates, frozenset(asked - fine))


def _masked(
    model: Any,
    candidates: Candidates,
    asked: set[int],
    request: Request,
    scores: Mapping[int, float],
) -> Choice:
    """Masks what is asked for, and keeps what still has an effect then."""
    named = request.channels is not None
    removed = asked
    if not named or request.round_to > 1:
        removed = rounded(candidates, asked, request.round_to, scores)
    stayed: set[int] = set()
    while True:
        marked = mark(candidates, removed)
        trace = trace_model(model, marked)
        if trace is None:
            raise no_graph(model)
        masked = Candidates(trace)
        fine = removed & masked.without_effect(exact=True)
        if fine == removed:
            return Choice(Cut(trace, marked), masked, frozenset(stayed))
        if named:
            raise _not_zero(masked, removed - fine)
        stayed |= removed - fine
        removed = rounded(candidates, fine, request.round_to, scores)


def _not_zero(candidates: Candidates, roots: set[int]) -> SqueezeError:
    paths = [
        path
        for path, width in candidates.outputs.items()
        if not roots.isdisjoint(candidates.roots_of(width).tolist())
    ]
    return SqueezeError(
        "Expected channels that are zero, or a constant that a bias can take, "
        "once their weights are zero. Their activation makes them another "
        f"constant, which a padded kernel reads. Received: channels of {paths}"
    )

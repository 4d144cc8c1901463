"""The factorization of a model in training: what is done, and what was."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_squeeze.errors import ModelMismatchError, NoKernelMatchedError
from keras_squeeze.factorizing.planning import factors_of, plan_layers
from keras_squeeze.factorizing.replacing import (
    Replacement,
    apply_replacements,
    replacement,
    truncation,
)
from keras_squeeze.layers.canonical_kernels import (
    canonical_kernel,
    kernel_info_arguments,
)
from keras_squeeze.layers.low_rank_conversion import reason_not_factorizable
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.low_rank import decompositions
from keras_squeeze.low_rank.effective_rank import effective_rank
from keras_squeeze.low_rank.kernel_info import Choice, Skip
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    find_kernels,
    matches,
    walk_layers,
)
from keras_squeeze.surgery.live_structure import Entry, LiveStructure


class LiveFactorization(LiveStructure):
    """Replaces kernels of a model in training and remembers which.

    The driver behind `ks.callbacks.LowRankFactorization`, for training loops
    of one's own: functions traced before a change must be traced anew.

    Args:
        model: A `keras.Model`, compiled or not.
        carry: Boolean. Whether the optimizer's momenta are handed on to the
            factors. Defaults to `True`.
        seed: Integer. For methods that begin at random. Defaults to `0`.
        number: Integer. Tells apart those that work on one model; each
            lowers the ranks of the layers it replaced itself. Defaults to
            `0`.
    """

    def __init__(
        self, model: Any, carry: bool = True, seed: int = 0, number: int = 0
    ) -> None:
        super().__init__(model, number)
        self._carry, self._seed = carry, seed
        #: What was chosen for each layer: pairs of path and `Choice` or
        #: `Skip`, in model order.
        self.choices: list[tuple[str, Choice | Skip]] = []

    def factorize(
        self,
        rank: Any = None,
        energy: float | None = None,
        budget: Any = None,
        method: str = "auto",
        filters: Filters = None,
        min_saving: float = 0.0,
    ) -> list[tuple[str, Choice]]:
        """Replaces the kernels that are worth it; arguments as in `factorize`.

        Returns:
            List of pairs of a layer's path and its `Choice`.

        Raises:
            NoKernelMatchedError: If `filters` match no layer.
            NonFiniteError: If a kernel holds NaN or infinity.
            SqueezeError: If an argument is out of its range, or the budget
                cannot be met. The model is unchanged then.
        """
        try:
            plan = plan_layers(
                self.model,
                rank,
                energy,
                budget,
                method,
                filters,
                min_saving,
            )
        except NoKernelMatchedError:
            # A model that was loaded to be trained on has them already.
            if not _are_low_rank(self.model, filters):
                raise
            plan = []
        self.choices = [(path, choice) for path, _, choice in plan]
        changes = [
            self._replacement(path, layer, choice)
            for path, layer, choice in plan
            if isinstance(choice, Choice)
        ]
        apply_replacements(self.model, changes)
        self._state.structure += [
            {**_entry(change), "number": self._number} for change in changes
        ]
        self.is_done = True
        return [(p, c) for p, c in self.choices if isinstance(c, Choice)]

    def truncate(self, share: float) -> list[tuple[str, tuple[int, ...]]]:
        """Lets ranks fall to a share below those chosen first.

        Args:
            share: Float in [0, 1). The share of the first ranks that is gone;
                ranks never rise again, and one remains.

        Returns:
            List of pairs of a layer's path and its new ranks, of the layers
            that changed.
        """
        layers, changes = dict(walk_layers(self.model)), []
        structure = self.structure
        for entry in structure:
            layer = layers[entry["path"]]
            ranks = tuple(
                min(now, max(1, round(first * (1 - share))))
                for now, first in zip(
                    layer.ranks, entry["first_ranks"], strict=True
                )
            )
            if ranks != tuple(layer.ranks):
                changes.append(
                    truncation(
                        self.model, entry["path"], layer, ranks, self._carry
                    )
                )
                entry["ranks"] = list(ranks)
        if changes:
            apply_replacements(self.model, changes)
            self._state.structure = structure
        return [(c.path, tuple(c.layer.ranks)) for c in changes]

    def restore(self, structure: list[Entry]) -> None:
        """Gives the model a structure, with factors of zeros to be loaded.

        Args:
            structure: List of dictionaries, as `structure` holds them.

        Raises:
            ModelMismatchError: If a layer is missing or cannot have it.
        """
        layers = dict(walk_layers(self.model))
        # Other surgery may have left entries of its own.
        structure = [entry for entry in structure if "method" in entry]
        changes = [
            change
            for entry in structure
            if (change := _empty(layers.get(entry["path"]), entry))
        ]
        if changes:
            apply_replacements(self.model, changes)
        own = [e for e in structure if e.get("number", 0) == self._number]
        self._state.structure = own
        self.is_done = self.is_done or bool(own)

    def figures(self, filters: Filters = None) -> dict[str, float]:
        """The number of weights and the mean effective rank.

        Args:
            filters: Optional regex or callable, as in `factorize`.

        Returns:
            Dictionary with `parameters` and `effective_rank`.
        """
        ranks = [
            effective_rank(canonical_kernel(layer))
            for layer in self._layers_in_question(filters)
        ]
        return {
            "parameters": float(self.model.count_params()),
            "effective_rank": float(np.mean(ranks)) if ranks else 0.0,
        }

    def _layers_in_question(self, filters: Filters) -> list[Any]:
        paths = {entry["path"] for entry in self.structure}
        layers = dict(walk_layers(self.model))
        try:
            kernels = find_kernels(self.model, filters)
        except NoKernelMatchedError:
            kernels = []
        free = [
            kernel.layer
            for kernel in kernels
            if reason_not_factorizable(kernel.layer) is None
        ]
        return [layers[path] for path in paths if path in layers] + free

    def _replacement(self, path: str, layer: Any, choice: Choice) -> Any:
        return replacement(
            self.model,
            path,
            layer,
            choice.method,
            factors_of(layer, choice, self._seed),
            self._carry,
        )


def _entry(change: Replacement) -> Entry:
    decomposition = decompositions.get(change.method)
    ranks = list(decomposition.ranks_of(change.factors))
    return {
        "path": change.path,
        "method": change.method,
        "ranks": ranks,
        "first_ranks": ranks,
    }


def _empty(layer: Any, entry: Entry) -> Replacement | None:
    """What gives a layer the structure of an entry, or `None` if it has it."""
    ranks = tuple(entry["ranks"])
    if isinstance(layer, LowRankLayer) and layer.method == entry["method"]:
        if tuple(layer.ranks) == ranks:
            return None
    elif layer is None or reason_not_factorizable(layer, entry["method"]):
        reason = "no such layer"
        if layer is not None:
            reason = str(reason_not_factorizable(layer, entry["method"]))
        raise ModelMismatchError(
            f"Expected a layer {entry['path']!r} that can be factorized by "
            f"{entry['method']!r}, as the saved training has it. Received: "
            f"{reason}"
        )
    decomposition = decompositions.get(entry["method"])
    shape = kernel_info_arguments(layer)["shape"]
    factors = tuple(
        np.zeros(each, np.float32)
        for each in decomposition.factor_shapes(shape, ranks)
    )
    return Replacement(entry["path"], layer, entry["method"], factors)


def _are_low_rank(model: Any, filters: Filters) -> bool:
    """Whether what is asked for was factorized before."""
    return any(
        isinstance(layer, LowRankLayer)
        and matches(filters, Kernel(f"{path}/kernel", layer, "kernel", None))
        for path, layer in walk_layers(model)
    )

"""All that criteria and regrowths may ask for besides the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking import (
    activation_statistics,
    gradient_statistics,
    normalization_scale,
)
from keras_squeeze.masking.activation_statistics import ActivationStatistics
from keras_squeeze.masking.gradient_statistics import GradientStatistics
from keras_squeeze.masking.training_state import TrainingState
from keras_squeeze.surgery.layer_tree import Kernel

GATHERED = (*gradient_statistics.NAMES, activation_statistics.NAME)
NAMES = (*GATHERED, normalization_scale.NAME)


class Statistics:
    """Gathers statistics of kernels while their model trains.

    Args:
        model: The `keras.Model` in training.
        kernels: List of `Kernel`.
        names: Names of statistics, some of `NAMES`.
        optimizer: The `keras.optimizers.Optimizer` in training, or `None`.
        training_only: Boolean. Whether the layers' inputs count in training
            only. Defaults to `True`.

    Raises:
        SqueezeError: If a name is unknown, or a statistic cannot be had.
    """

    def __init__(
        self,
        model: Any,
        kernels: list[Kernel],
        names: Sequence[str],
        optimizer: Any,
        training_only: bool = True,
    ) -> None:
        _check_names(names)
        self._gatherers: list[GradientStatistics | ActivationStatistics] = []
        self._activations: ActivationStatistics | None = None
        self._scales: dict[str, Any] = {}
        if normalization_scale.NAME in names:
            self._scales = normalization_scale.following_scales(model, kernels)
            kernels = normalization_scale.with_scale_only(kernels, self._scales)
        #: The kernels that can be scored: all, but for those without a scale.
        self.kernels = kernels
        gradients = [n for n in names if n in gradient_statistics.NAMES]
        self._gradients: GradientStatistics | None = None
        if gradients:
            self._gradients = GradientStatistics(
                model, kernels, gradients, optimizer
            )
            self._gatherers.append(self._gradients)
        if activation_statistics.NAME in names:
            self._activations = ActivationStatistics(
                model, kernels, training_only
            )
            self._gatherers.append(self._activations)

    @property
    def gathers(self) -> bool:
        """Whether anything is gathered in the training step."""
        return bool(self._gatherers)

    def set_shadows(self, shadows: dict[str, Any]) -> None:
        """Tells where pruned weights keep their values, by kernels' paths."""
        if self._gradients is not None:
            self._gradients.set_shadows(shadows)

    def attach(self) -> None:
        """Puts all hooks in place."""
        for gatherer in self._gatherers:
            gatherer.attach()

    def detach(self) -> None:
        """Takes all hooks off."""
        self.record(False)
        for gatherer in self._gatherers:
            gatherer.detach()

    def record(self, recording: bool) -> None:
        """Says whether what comes is part of a training step."""
        if self._activations is not None:
            self._activations.recording = recording

    def missing(self) -> list[str]:
        """Paths of kernels of which nothing came since the last reset."""
        found = [p for gatherer in self._gatherers for p in gatherer.missing()]
        return list(dict.fromkeys(found))

    def read(self) -> list[dict[str, NDArray[Any]]]:
        """What there is of each kernel, a dictionary from name to array."""
        found: list[dict[str, NDArray[Any]]] = [{} for _ in self.kernels]
        for gatherer in self._gatherers:
            for own, more in zip(found, gatherer.read(), strict=True):
                own.update(more)
        for kernel, own in zip(self.kernels, found, strict=True):
            if kernel.path in self._scales:
                scale = self._scales[kernel.path]
                own[normalization_scale.NAME] = normalization_scale.read_scale(
                    kernel, scale
                )
        return found

    def reset(self) -> None:
        """Begins anew."""
        for gatherer in self._gatherers:
            gatherer.reset()

    def register(self, state: TrainingState) -> None:
        """Makes what was gathered part of what is saved with the model."""
        for gatherer in self._gatherers:
            gatherer.register(state)


def _check_names(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise SqueezeError(
            "Expected the `statistics` of criterion and regrowth to be among "
            f"{', '.join(NAMES)}. Received: {', '.join(unknown)}"
        )

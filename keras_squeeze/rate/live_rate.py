"""A training whose loss counts the bytes of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking.training_state import TrainingState
from keras_squeeze.quantizers import AbsMaxQuantizer
from keras_squeeze.rate.learned_grid import find_grids, stock_kernels
from keras_squeeze.rate.measuring import FileMeasurement, rest_bytes
from keras_squeeze.rate.rated_kernels import RatedKernels
from keras_squeeze.rate.weight_controller import WeightController
from keras_squeeze.surgery.layer_tree import Filters
from keras_squeeze.surgery.structure_version import structure_version
from keras_squeeze.training_quantization.live_quantization import (
    LiveQuantization,
)

#: Where a controller begins: a weight that costs little accuracy.
INITIAL_WEIGHT = 0.05


@dataclasses.dataclass(frozen=True)
class RateGoal:
    """What a rate penalty is to reach.

    Args:
        weight: Optional float. The loss that one bit a weight costs.
        target_bytes: Optional integer. The size of the file.
        ramp: Float in [0, 1]. The share of the training over which `weight`
            grows from zero.
    """

    weight: float | None = None
    target_bytes: int | None = None
    ramp: float = 0.3


class LiveRate:
    """Makes the size of a model in training a part of its loss.

    The driver behind `ks.callbacks.RatePenalty`.

    Args:
        model: The `keras.Model` in training.
        goal: `RateGoal`.
        profile: String. The profile of the export in question. Defaults to
            `"auto"`.
        number: Integer. Tells apart those that work on one model. Defaults
            to `0`.
    """

    def __init__(
        self,
        model: Any,
        goal: RateGoal,
        profile: str = "auto",
        number: int = 0,
    ) -> None:
        self.model, self.goal, self._profile = model, goal, profile
        # Negative: other callbacks count theirs from zero.
        self._quantization = LiveQuantization(model, -1 - number)
        self._rated: RatedKernels | None = None
        self._structure = -1
        self._state = TrainingState()
        self._state.add("rate", self._read, self._write)
        self._reset()

    def _reset(self) -> None:
        target = self.goal.target_bytes
        self._controller: WeightController | None = None
        if target is not None:
            self._controller = WeightController(target, INITIAL_WEIGHT)
        # The file as last measured: what is not kernels, and the coded
        # kernels over their estimate.
        self._rest_bytes, self._correction = 0.0, 1.0

    @property
    def is_done(self) -> bool:
        """Whether kernels are under the penalty, or have been."""
        return self._rated is not None

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Pairs of a layer's path and the reason why it was left as it is."""
        return self._quantization.skipped

    def begin(self, backup: str | None = None) -> None:
        """Lets `save_weights` write down how far the training is.

        Args:
            backup: Optional path of the weights that are about to be
                restored; the model gets the structure they were saved with.

        Raises:
            ModelMismatchError: If that structure does not fit the model.
        """
        self._reset()
        self._rated = None
        self._quantization.begin(backup)
        self._state.attach(self.model)

    def rate(self, granularity: str, filters: Filters = None) -> None:
        """Puts kernels on grids and under the penalty, those that are new.

        Args:
            granularity: String. `"per_tensor"` or `"per_channel"`, for a
                learned step each.
            filters: Optional regex or callable, as in `find_kernels`.

        Raises:
            NoKernelMatchedError: If `filters` match no layer.
            NonFiniteError: If a kernel holds NaN or infinity.
            SqueezeError: If none of the kernels lies on a uniform grid, or
                the target is below what the file takes beside its kernels.
        """
        if self.is_done and structure_version(self.model) == self._structure:
            return
        stock = stock_kernels(self.model, filters)
        self._check_target(stock)
        quantizer = AbsMaxQuantizer(bits=8, granularity=granularity)
        self._quantization.quantize(quantizer, filters=filters)
        grids = find_grids(self.model, filters)
        for grid in grids:
            if id(grid.variable) in stock:
                grid.coarsen()
        if self._rated is not None:
            self._rated.detach()
        self._rated = RatedKernels(self.model, grids)
        self._rated.attach()
        self._structure = structure_version(self.model)

    def _check_target(self, stock: Mapping[int, tuple[int, ...]]) -> None:
        target = self.goal.target_bytes
        if target is None or not stock:
            return
        rest = rest_bytes(self.model, stock, self._profile)
        if rest >= target:
            raise SqueezeError(
                f"Expected `target_bytes` above the {rest} bytes that "
                f"{self.model.name!r} needs beside its kernels: config, "
                f"biases, container. Received: target_bytes={target}"
            )

    def end(self) -> None:
        """Takes the penalty off; nothing is written down any more."""
        if self._rated is not None:
            self._rated.detach()
        self._quantization.end()
        self._state.detach(self.model)

    def freeze(self) -> None:
        """Turns the layers into quantized layers with the codes they have.

        Raises:
            SqueezeError: If a weight is not finite. The model is unchanged
                then.
        """
        if self._rated is not None and self._rated.are_trained():
            self._quantization.freeze()

    def update(self, share: float) -> None:
        """Chooses the weight.

        Args:
            share: Float in [0, 1]. The share of the training that has passed.
        """
        rated = self._running()
        if self._controller is None:
            ramp = self.goal.ramp
            full = min(1.0, share / ramp) if ramp else 1.0
            rated.weight = full * float(self.goal.weight or 0.0)
            return
        if not self._rest_bytes:
            self.measure()
        rated.weight = self._controller.update(self.file_bytes(), share)

    def measure(self) -> None:
        """Measures the file, to correct the estimate."""
        rated = self._running()
        measured: FileMeasurement = rated.measure(self._profile)
        estimate = rated.estimated_bytes()
        self._rest_bytes = float(measured.rest_bytes)
        self._correction = 1.0
        if estimate and measured.codes_bytes:
            self._correction = measured.codes_bytes / estimate

    def file_bytes(self) -> float:
        """The estimated size of the file, as the kernels are now."""
        estimate = self._running().estimated_bytes()
        return self._rest_bytes + self._correction * estimate

    def figures(self, filters: Filters = None) -> dict[str, float]:
        """The size of the file as it would be now, and the weight.

        Args:
            filters: Not looked at.

        Returns:
            Dictionary with `rate_bytes` and `rate_weight`; empty before there
            is a penalty.
        """
        if self._rated is None:
            return {}
        self.measure()
        return {
            "rate_bytes": self.file_bytes(),
            "rate_weight": self._rated.weight,
        }

    def _running(self) -> RatedKernels:
        if self._rated is None:
            raise SqueezeError(
                "Expected kernels under the penalty: call `rate()` "
                "first. Received: none"
            )
        return self._rated

    def _read(self) -> NDArray[np.float64]:
        controller = self._controller or WeightController(1.0, 1.0)
        return np.array(
            [
                controller.integral,
                controller.share,
                controller.first_bytes,
                self._rest_bytes,
                self._correction,
            ]
        )

    def _write(self, values: NDArray[np.float64]) -> None:
        integral, share, first, self._rest_bytes, self._correction = map(
            float, values
        )
        if self._controller is not None:
            self._controller.integral = integral
            self._controller.share = share
            self._controller.first_bytes = first

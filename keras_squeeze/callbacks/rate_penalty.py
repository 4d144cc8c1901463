"""Training for the coder: the size of the file is part of the loss."""

from __future__ import annotations

import math
from typing import Any

from keras.src.utils import io_utils

from keras_squeeze.callbacks.live_surgery import LiveSurgery, check_count
from keras_squeeze.codecs.profiles import check_profile
from keras_squeeze.errors import SqueezeError
from keras_squeeze.rate.live_rate import LiveRate, RateGoal
from keras_squeeze.surgery.layer_tree import Filters


class RatePenalty(LiveSurgery):
    """Makes the coded size of a model's kernels a part of its loss.

    Kernels are trained on uniform grids whose steps are learned with them:
    the forward pass sees rounded weights, gradients pass the rounding
    straight through. To the loss comes an estimate of the bits that the
    entropy coder will spend on the integers. It knows what the coder knows:
    how often the weights of an output channel, a tap and an input are zero.
    So weights drift to cheap values, most of them to zero and whole channels
    with them, and the task decides which ones are worth their bits. At the
    end of the training the layers become quantized layers with these
    integers, which `ks.export` codes; nothing has to be known to decode the
    file but the file.

    Give a `weight`, and the size follows; or `target_bytes`, and a
    controller steers the weight so that the whole file comes out a little
    below it. The controller needs a learning rate that does not fall to zero
    before the last quarter of the training.

    Kernels become trainable on a grid when the training begins, or at
    `begin_epoch`; those that a `QuantizationAwareTraining` callback in the
    same list has put on uniform grids are taken as they are. Pruned weights
    stay zero. The callback composes with `LowRankFactorization` if it begins
    after the kernels were replaced: the factors are rated then.

    A training that was killed goes on where it stood under
    `BackupAndRestore`, for which this callback must stand before
    `BackupAndRestore` in the list.

    At the end of every epoch `rate_bytes`, the size of the file that would be
    written now, and `rate_weight` are logged.

    Args:
        weight: Optional float above 0. What one bit a weight (all kernels
            together) costs, in units of the loss: 0.08 hardly shows in the
            accuracy of a LeNet, and sizes fall about as its power -0.7.
        target_bytes: Optional integer. The size of the whole file to be
            reached. One of `weight` and `target_bytes` must be given.
        begin_epoch: Integer. The epoch, counted from zero, at whose beginning
            kernels are put on grids. Defaults to `0`.
        ramp: Float in [0, 1]. The share of the training, from `begin_epoch`
            on, over which the weight grows from zero; not for
            `target_bytes`. Defaults to `0.3`.
        filters: Optional regex, searched in the kernels' paths, or callable
            `layer -> bool`. Defaults to `None`: all kernels that have a
            quantized layer.
        granularity: String. `"per_tensor"` or `"per_channel"`: what has a
            step of its own. Defaults to `"per_tensor"`.
        frequency: Integer. Batches between changes of the weight. Defaults to
            `20`.
        profile: String. The profile of the export that the size is meant for.
            Defaults to `"auto"`.
        verbose: Integer. 1: a line an epoch, and one for each layer that
            cannot be put on a grid. Defaults to `0`.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    ```python
    penalty = ks.callbacks.RatePenalty(target_bytes=12_000)
    model.fit(x, y, epochs=12, callbacks=[penalty])
    ks.export(model, "model.squeeze.h5")
    ```

    References:
        [Oktay et al., 2020](https://arxiv.org/abs/1906.06624),
        [Girish et al., 2022](https://arxiv.org/abs/2204.02965),
        [Esser et al., 2020](https://arxiv.org/abs/1902.08153) for steps that
        are learned.
    """

    def __init__(
        self,
        weight: float | None = None,
        target_bytes: int | None = None,
        begin_epoch: int = 0,
        ramp: float = 0.3,
        filters: Filters = None,
        granularity: str = "per_tensor",
        frequency: int = 20,
        profile: str = "auto",
        verbose: int = 0,
    ) -> None:
        super().__init__(begin_epoch, None, filters, verbose)
        _check_goal(weight, target_bytes)
        check_count("frequency", frequency, 1)
        if not 0 <= ramp <= 1:
            raise SqueezeError(
                f"Expected `ramp` to be in [0, 1]. Received: ramp={ramp!r}"
            )
        if granularity not in ("per_tensor", "per_channel"):
            raise SqueezeError(
                "Expected `granularity` to be 'per_tensor' or 'per_channel'. "
                f"Received: granularity={granularity!r}"
            )
        check_profile(profile)
        self.weight, self.target_bytes = weight, target_bytes
        self.ramp, self.granularity = ramp, granularity
        self.frequency, self.profile = frequency, profile
        self._moment: tuple[int, int] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Makes the structure again that a backup to be restored has."""
        super().on_train_begin(logs)
        self._moment = None

    def _make_live(self, model: Any, number: int) -> LiveRate:
        goal = RateGoal(self.weight, self.target_bytes, self.ramp)
        return LiveRate(model, goal, self.profile, number)

    def _replace(self) -> None:
        live = self._running()
        began = not live.is_done
        live.rate(self.granularity, self.filters)
        if began and self.verbose:
            for path, reason in live.skipped:
                name = type(self).__name__
                io_utils.print_msg(f"{name}: {path}: left float, {reason}")

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Chooses the weight anew, every so many batches."""
        super().on_train_batch_begin(batch, logs)
        live = self._running()
        # Under `steps_per_execution` not every batch is announced.
        moment = self._epoch, batch // self.frequency
        if live.is_done and moment != self._moment:
            self._moment = moment
            live.update(self._share(batch))

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Logs `rate_bytes` and `rate_weight`."""
        figures = self._running().figures()
        if logs is not None:
            logs.update(figures)
        if self.verbose and figures:
            io_utils.print_msg(
                f"\nEpoch {epoch + 1}: {type(self).__name__}: "
                f"{figures['rate_bytes']:,.0f} bytes at a weight of "
                f"{figures['rate_weight']:.4g}"
            )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the penalty off; layers become quantized layers."""
        super().on_train_end(logs)
        self._running().freeze()

    def _share(self, batch: int) -> float:
        """The share of the training that has passed since it began."""
        parameters = self.params or {}
        steps = parameters.get("steps")
        passed = self._epoch - self.begin_epoch
        whole = (parameters.get("epochs") or 1) - self.begin_epoch
        begun = min(1.0, batch / steps) if steps else 0.0
        return min(1.0, max(0.0, (passed + begun) / max(1, whole)))


def _check_goal(weight: Any, target_bytes: Any) -> None:
    if (weight is None) == (target_bytes is None):
        raise SqueezeError(
            "Expected one of `weight` and `target_bytes`. Received: "
            f"weight={weight!r}, target_bytes={target_bytes!r}"
        )
    given = weight if target_bytes is None else target_bytes
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not is_number or not 0 < given < math.inf:
        raise SqueezeError(
            "Expected `weight` or `target_bytes` to be a finite number above "
            f"0. Received: weight={weight!r}, target_bytes={target_bytes!r}"
        )

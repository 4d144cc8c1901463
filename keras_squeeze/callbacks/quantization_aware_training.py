"""Kernels are rounded to few bits while a model trains."""

from __future__ import annotations

from typing import Any

import keras
from keras.src.utils import io_utils

from keras_squeeze import quantizers
from keras_squeeze.callbacks.live_surgery import LiveSurgery, check_count
from keras_squeeze.layers.quantizer_arguments import layer_quantizer
from keras_squeeze.masking.callback_order import find_callbacks
from keras_squeeze.quantizers import Quantizer
from keras_squeeze.surgery.layer_tree import Filters
from keras_squeeze.training_quantization.live_quantization import (
    LiveQuantization,
)

# Where Keras does not know how many steps an epoch has.
_UNKNOWN_STEPS = 1000


class QuantizationAwareTraining(LiveSurgery):
    """Trains kernels with the rounding that they will be stored with.

    At its epoch or step every matched layer becomes, in place, one that
    computes with its kernels rounded to a grid of few bits (`Dense` becomes
    `QuantizationAwareDense`). Gradients pass the rounding straight through to
    the float kernels, which stay the trainable variables that they were, with
    the optimizer's momenta; the steps of the grid, or the levels of a
    codebook, are learned with them. The model object, the history, the
    metrics, the learning rate and `optimizer.iterations` go on as they were;
    nothing is wrapped or cloned, and nothing has to be compiled again by the
    user. When the training ends the layers become quantized layers, which
    hold the codes and compute the same.

    Weights that pruning has set to zero stay zero. The factors of low-rank
    layers are kernels like others. A model that is quantized already keeps
    its grids, and is trained on them: its accuracy after rounding recovers.

    With a codebook (`quantizer="kmeans"`) weights are drawn to their levels
    little by little, over `hardening_steps`: each begins as a mean of the two
    levels it lies between and ends as the nearest one.

    A training that was killed goes on where it stood under
    `BackupAndRestore`, for which this callback must stand before
    `BackupAndRestore` in the list, and behind `LowRankFactorization`; a
    warning tells if it does not. Weights kept from before the change fit no
    longer: `EarlyStopping(restore_best_weights=True)` needs a
    `start_from_epoch` behind `begin_epoch`.

    At the end of every epoch `bits`, the mean width of a weight in question
    (32 before they are rounded), and `quantization_snr_db` are logged: how
    far the energy of the float kernels lies above that of what rounding takes
    away, in decibels.

    Args:
        bits: Integer from 1 to 8. Defaults to `8`.
        quantizer: String, config or `ks.quantizers.Quantizer`: the kind of
            grid, and what chooses it at the beginning. `"mse"`, `"absmax"`,
            `"affine"`, `"ternary"`, `"binary"`, `"kmeans"`,
            `"power_of_two"`, `"nf4"`, ... Defaults to `"mse"`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `None`: `"per_channel"`, but
            `"per_tensor"` for codebooks that are learned.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        begin_epoch: Integer. At the beginning of this epoch, counted from
            zero, kernels begin to be rounded. Defaults to `0`.
        begin_step: Optional integer. The step (`optimizer.iterations`) after
            which they begin to be, instead of an epoch. Defaults to `None`.
        learn_scale: Boolean. Whether steps or levels are learned. Defaults to
            `True`.
        filters: Optional regex, searched in the kernels' paths, or callable
            `layer -> bool`. Defaults to `None`: all kernels that have a
            quantized layer. The others are listed with `verbose=1` and in
            `live.skipped`.
        freeze: Boolean. Whether the layers become quantized ones when the
            training ends; otherwise they stay as they train. Defaults to
            `True`.
        hardening_steps: Optional integer. Over so many steps the levels of a
            learned codebook become those of their weights. Defaults to
            `None`: half of the steps that remain.
        frequency: Integer. Steps between changes of how hard the assignment
            to levels is. Defaults to `20`.
        verbose: Integer. 1: a line for each layer. Defaults to `0`.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    ```python
    quantization = ks.callbacks.QuantizationAwareTraining(bits=4)
    model.fit(x, y, epochs=5, callbacks=[quantization])
    ks.export(model, "model.squeeze.h5")
    ```

    References:
        [Esser et al., 2020](https://arxiv.org/abs/1902.08153),
        [Agustsson et al., 2017](https://arxiv.org/abs/1704.00648)
    """

    _done_to_kernels = "rounded"

    def __init__(
        self,
        bits: int = 8,
        quantizer: Any = "mse",
        granularity: str | None = None,
        group_size: int | None = None,
        begin_epoch: int = 0,
        begin_step: int | None = None,
        learn_scale: bool = True,
        filters: Filters = None,
        freeze: bool = True,
        hardening_steps: int | None = None,
        frequency: int = 20,
        verbose: int = 0,
    ) -> None:
        super().__init__(begin_epoch, begin_step, filters, verbose)
        check_count("frequency", frequency, 1)
        if hardening_steps is not None:
            check_count("hardening_steps", hardening_steps, 0)
        self.quantizer = _quantizer(quantizer, bits, granularity, group_size)
        self.learn_scale, self.freeze = bool(learn_scale), bool(freeze)
        self.hardening_steps, self.frequency = hardening_steps, frequency
        self._hardens = False

    def _make_live(self, model: Any, number: int) -> LiveQuantization:
        return LiveQuantization(model, number)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Makes the structure again that a backup to be restored has."""
        super().on_train_begin(logs)
        self._hardens = self._running().hardens

    def _replace(self) -> None:
        live = self._running()
        if live.is_done:
            return
        paths = live.quantize(
            self.quantizer, self.learn_scale, self.filters, self._hardening()
        )
        self._hardens = live.hardens
        self._harden()
        if self.verbose:
            name = type(self).__name__
            for path in paths:
                io_utils.print_msg(f"{name}: {path}: {self.quantizer}")
            for path, reason in live.skipped:
                io_utils.print_msg(f"{name}: {path}: left float, {reason}")

    def _hardening(self) -> tuple[int, int]:
        step = self._step()
        if self.hardening_steps is not None:
            return step, self.hardening_steps
        params = self.params or {}
        epochs = int(params.get("epochs") or 1)
        steps = int(params.get("steps") or _UNKNOWN_STEPS)
        remaining = epochs * steps - step
        if remaining <= 0:
            # The optimizer has trained before this `fit`.
            remaining = (epochs - self._epoch) * steps
        return step, max(1, remaining // 2)

    def _next_step_after(self, step: int) -> int | None:
        if not self._hardens:
            return None
        return (step // self.frequency + 1) * self.frequency

    def _after_step(self, before: int, after: int) -> None:
        if after // self.frequency > before // self.frequency:
            self._harden()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Logs `bits` and `quantization_snr_db`."""
        self._harden()
        super().on_epoch_end(epoch, logs)

    def _harden(self) -> None:
        if self._hardens:
            self._hardens = self._running().harden(self._step())

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Turns the layers into quantized ones, if they are to be."""
        super().on_train_end(logs)
        if self.freeze and self.live is not None and self.live.is_done:
            self._restore_best_weights()
            self.live.freeze()

    def _restore_best_weights(self) -> None:
        """Does what callbacks behind this one are about to do in vain.

        They kept float kernels, which the quantized layers have no more.
        """
        others = find_callbacks(self, keras.callbacks.EarlyStopping)
        for other in others:
            if other.restore_best_weights and other.best_weights is not None:
                self._trained_model().set_weights(other.best_weights)
                other.best_weights = None


def _quantizer(
    quantizer: Any, bits: int, granularity: str | None, group_size: int | None
) -> Quantizer:
    """The quantizer of the grids to begin with."""
    if granularity is None:
        kind = quantizers.get(quantizer, bits=bits)
        granularity = "per_channel"
        if group_size is not None:
            granularity = "per_group"
        elif kind.learns_codebook:
            granularity = "per_tensor"
    chosen = layer_quantizer(quantizer, bits, granularity, group_size)
    config = chosen.get_config()
    has_none = config.get("zero_level") is False
    if isinstance(quantizer, str) and has_none and chosen.bits > 1:
        # Weights that are pruned later need a level at zero, too.
        return quantizers.get({**config, "zero_level": True})
    return chosen

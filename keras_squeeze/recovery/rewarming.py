"""An optimizer for the epochs after a model was made small."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_squeeze.errors import SqueezeError


def recovery_optimizer(
    optimizer: Any = "adam",
    steps: int = 1000,
    learning_rate: float | None = None,
    warmup: float = 0.1,
    final: float = 0.01,
    global_clipnorm: float | None = 1.0,
) -> Any:
    """Makes an optimizer that trains a model which was just made small.

    Pruned, factorized or quantized weights are off their optimum: first
    gradients are large and point where the old weights were. So the gradient's
    norm is clipped, and the learning rate begins at a tenth, rises to its peak
    and falls along a cosine: as high as in training, or the small model stays
    near the large one's optimum, which it cannot reach.

    Args:
        optimizer: String, config or `keras.optimizers.Optimizer`; of the
            latter the class and the settings are taken, it is not changed.
            Defaults to `"adam"`.
        steps: Positive integer. Steps the training will have. Defaults to
            `1000`.
        learning_rate: Optional float. The peak. Defaults to the optimizer's
            own, at its first step if it has a schedule.
        warmup: Float in [0, 1). The share of the steps in which the learning
            rate rises. Defaults to `0.1`.
        final: Float in [0, 1]. The last learning rate as a share of the peak.
            Defaults to `0.01`.
        global_clipnorm: Optional float. The norm of all gradients together is
            clipped to it. `None` leaves clipping as the optimizer has it.
            Defaults to `1.0`.

    Returns:
        A new `keras.optimizers.Optimizer`.

    Raises:
        SqueezeError: If an argument is out of its range.

    Example:
    >>> optimizer = recovery_optimizer("sgd", steps=100, learning_rate=0.1)
    >>> round(float(optimizer.learning_rate), 3)  # It rises to 0.1.
    0.01

    References:
        - Renda et al., 2020, Comparing rewinding and fine-tuning in neural
          network pruning (learning rates as in training):
          https://arxiv.org/abs/2003.02389
        - Loshchilov and Hutter, 2017, SGDR: https://arxiv.org/abs/1608.03983
    """
    _check_arguments(steps, warmup, final)
    model = keras.optimizers.get(optimizer)
    inner = getattr(model, "inner_optimizer", model)
    config = inner.get_config()
    peak = _peak(inner) if learning_rate is None else learning_rate
    _check_positive("learning_rate", peak)
    config["learning_rate"] = _schedule(float(peak), steps, warmup, final)
    if global_clipnorm is not None:
        _check_positive("global_clipnorm", global_clipnorm)
        config.update(
            clipnorm=None, clipvalue=None, global_clipnorm=global_clipnorm
        )
    made = type(inner).from_config(config)
    if inner is model:
        return made
    return keras.optimizers.LossScaleOptimizer(made)


def _peak(optimizer: Any) -> float:
    schedule = optimizer._learning_rate
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return float(schedule(0))
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def _schedule(peak: float, steps: int, warmup: float, final: float) -> Any:
    rising = round(warmup * steps)
    if not rising:
        return keras.optimizers.schedules.CosineDecay(peak, steps, alpha=final)
    return keras.optimizers.schedules.CosineDecay(
        peak / 10,
        max(1, steps - rising),
        alpha=final,
        warmup_target=peak,
        warmup_steps=rising,
    )


def _check_arguments(steps: int, warmup: float, final: float) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise SqueezeError(
            f"Expected `steps` to be a positive integer. Received: {steps!r}"
        )
    if not 0 <= warmup < 1:
        raise SqueezeError(
            f"Expected `warmup` in [0, 1). Received: warmup={warmup!r}"
        )
    if not 0 <= final <= 1:
        raise SqueezeError(
            f"Expected `final` in [0, 1]. Received: final={final!r}"
        )


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise SqueezeError(
            f"Expected `{name}` to be positive and finite. "
            f"Received: {name}={value!r}"
        )

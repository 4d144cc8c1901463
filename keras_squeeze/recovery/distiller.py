"""A small model learns from the large one it was made of."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_squeeze.errors import SqueezeError
from keras_squeeze.recovery.output_distillation import (
    OutputDistillation,
    output_kind,
)
from keras_squeeze.recovery.rewarming import recovery_optimizer


class Distiller(keras.distillation.Distiller):
    """Keras' `Distiller` for a student that callbacks make small meanwhile.

    Two things differ. The teacher is no part of this model: callbacks, masks
    and checkpoints see the student alone, and the teacher is left as
    trainable as it was. And the losses that the student's layers and
    variables add (regularizers, a `RatePenalty`) are part of the loss.

    Args:
        teacher: A trained `keras.Model`.
        student: A `keras.Model` of the same inputs and outputs.
        distillation_losses: One or several
            `keras.distillation.DistillationLoss`. Defaults to an
            `OutputDistillation` that fits the outputs.
        distillation_loss_weights: Optional list of floats, one a loss.
        student_loss_weight: Float in [0, 1]. The weight of the labels; the
            teacher has the rest. Defaults to `0.5`.
        name: String. Defaults to `"distiller"`.
        **kwargs: What `keras.Model` takes.

    Example:
    ```python
    distiller = ks.recovery.Distiller(teacher=model, student=small)
    distiller.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    distiller.fit(x, y, epochs=3)
    ```
    """

    def __init__(
        self,
        teacher: Any,
        student: Any,
        distillation_losses: Any = None,
        distillation_loss_weights: Any = None,
        student_loss_weight: float = 0.5,
        name: str = "distiller",
        **kwargs: Any,
    ) -> None:
        if distillation_losses is None:
            distillation_losses = OutputDistillation(
                outputs=output_kind(student)
            )
        flags = [(layer, layer.trainable) for layer in _layers(teacher)]
        super().__init__(
            teacher,
            student,
            distillation_losses,
            distillation_loss_weights,
            student_loss_weight,
            name,
            **kwargs,
        )
        for layer, trainable in flags:
            layer.trainable = trainable
        self.built = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("teacher", "_teacher_feature_extractor"):
            # Past Keras, which would track its layers and save its weights.
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Keras' loss, and what the student's own layers add.

        Args:
            x: Inputs.
            y: Targets.
            y_pred: The student's outputs.
            sample_weight: Not looked at, as in Keras.
            training: Boolean. Defaults to `True`.

        Returns:
            Scalar tensor.
        """
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        own = self.losses
        return ops.add(loss, sum(own)) if own else loss


def distill(
    student: Any,
    teacher: Any,
    *args: Any,
    optimizer: Any = None,
    temperature: float = 2.0,
    student_loss_weight: float = 0.5,
    epochs: int = 1,
    **kwargs: Any,
) -> Any:
    """Trains a small model on labels and on what the large one says.

    The student is trained in place; callbacks of this package may make it
    smaller meanwhile. Its own loss and metrics are used, and it can be
    evaluated afterwards as before.

    Args:
        student: A compiled `keras.Model` whose loss is a name, a function or
            a `keras.losses.Loss`.
        teacher: A `keras.Model` of the same inputs and outputs, as the model
            before it was made small.
        *args: What `fit` takes, first `x` and `y`.
        optimizer: Optional optimizer. Defaults to a `recovery_optimizer` like
            the student's own.
        temperature: Positive float. Defaults to `2.0`.
        student_loss_weight: Float in [0, 1]. The weight of the labels.
            Defaults to `0.5`.
        epochs: Positive integer. Defaults to `1`.
        **kwargs: What `fit` takes; weights of samples or classes are not
            looked at, as in Keras' `Distiller`.

    Returns:
        The `keras.callbacks.History`.

    Raises:
        SqueezeError: If the student is not compiled, or an argument is out of
            its range.

    Example:
    ```python
    small, _ = ks.factorize(model, energy=0.9)
    ks.recovery.distill(small, model, x, y, epochs=3)
    ```
    """
    loss = _loss_of(student)
    kind = output_kind(student)
    distiller = Distiller(
        teacher,
        student,
        OutputDistillation(temperature, kind),
        student_loss_weight=student_loss_weight,
    )
    if optimizer is None:
        steps = _steps(args, kwargs) * epochs
        optimizer = recovery_optimizer(student.optimizer, steps)
    config = student.get_compile_config() or {}
    distiller.compile(
        optimizer,
        loss,
        metrics=_metrics(config),
        steps_per_execution=student.steps_per_execution,
        run_eagerly=student.run_eagerly,
    )
    history = distiller.fit(*args, epochs=epochs, **kwargs)
    # The student's own compiled steps may hold kernels that are no more.
    student.train_function = None
    student.test_function = None
    student.predict_function = None
    return history


def _layers(model: Any) -> list[Any]:
    return list(model._flatten_layers())


def _loss_of(student: Any) -> Any:
    if not getattr(student, "compiled", False):
        raise SqueezeError(
            "Expected a compiled student: its loss and metrics are used. "
            f"Received: the uncompiled model {student.name!r}"
        )
    loss = student.loss
    if isinstance(loss, list | dict | tuple) or loss is None:
        raise SqueezeError(
            "Expected a student with one loss; use `ks.recovery.Distiller` "
            f"for several outputs. Received: loss={loss!r}"
        )
    return keras.losses.get(loss)


def _metrics(config: dict[str, Any]) -> list[Any] | None:
    metrics = config.get("metrics")
    if not metrics:
        return None
    return [
        metric
        if isinstance(metric, str)
        else keras.saving.deserialize_keras_object(metric)
        for metric in metrics
    ]


def _steps(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Steps of an epoch of `fit` with these arguments."""
    if kwargs.get("steps_per_epoch"):
        return int(kwargs["steps_per_epoch"])
    x = args[0] if args else kwargs.get("x")
    leaves = keras.tree.flatten(x)
    if leaves and hasattr(leaves[0], "shape"):
        size = kwargs.get("batch_size") or 32
        return max(1, -(-int(leaves[0].shape[0]) // int(size)))
    try:
        return max(1, len(x))  # type: ignore[arg-type]
    except TypeError as error:
        raise SqueezeError(
            "Expected arrays, data of known length, `steps_per_epoch` or an "
            f"`optimizer`. Received: {type(x).__name__}"
        ) from error

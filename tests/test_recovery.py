"""Distillation, and the optimizer that brings accuracy back."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.errors import SqueezeError
from keras_squeeze.recovery import (
    Distiller,
    OutputDistillation,
    distill,
    recovery_optimizer,
)
from keras_squeeze.recovery.output_distillation import output_kind

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


def classifier(units: int = 16, activation: str | None = "softmax"):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(units, activation="relu", name="hidden"),
            keras.layers.Dense(2, activation=activation, name="top"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.5),
        keras.losses.SparseCategoricalCrossentropy(activation is None),
        metrics=["accuracy"],
        run_eagerly=True,
    )
    return model


def rate(optimizer, step: int) -> float:
    return float(optimizer._learning_rate(step))


def test_learning_rate_rises_then_falls() -> None:
    optimizer = recovery_optimizer(
        keras.optimizers.Adam(0.02, beta_1=0.7, clipvalue=3.0), steps=200
    )
    rates = [rate(optimizer, s) for s in (0, 10, 20, 110, 200)]
    assert np.allclose(rates[:3], [0.002, 0.011, 0.02])
    assert rates[2] > rates[3] > rates[4] == pytest.approx(0.0002)
    assert optimizer.beta_1 == 0.7
    assert (optimizer.global_clipnorm, optimizer.clipvalue) == (1.0, None)


def test_optimizer_keeps_its_loss_scale_and_its_source() -> None:
    source = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5))
    made = recovery_optimizer(source, steps=10, warmup=0.0)
    assert isinstance(made, keras.optimizers.LossScaleOptimizer)
    assert rate(made.inner_optimizer, 0) == pytest.approx(0.5)
    assert float(source.inner_optimizer.learning_rate) == 0.5
    decayed = keras.optimizers.schedules.ExponentialDecay(0.3, 10, 0.5)
    source = keras.optimizers.SGD(decayed)
    made = recovery_optimizer(source, steps=10, warmup=0.0)
    assert rate(made, 0) == pytest.approx(0.3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": 0},
        {"warmup": 1.0},
        {"final": -0.1},
        {"learning_rate": 0.0},
        {"global_clipnorm": float("inf")},
    ],
)
def test_optimizer_refuses(arguments) -> None:
    with pytest.raises(SqueezeError, match="Received"):
        recovery_optimizer("sgd", **arguments)


def test_probabilities_and_their_logits_are_as_far_apart() -> None:
    first, second = RNG.normal(size=(2, 5, 3)).astype("float32")
    logits = OutputDistillation(3.0, "logits")
    likely = OutputDistillation(3.0)
    softmax = keras.ops.softmax
    expected = float(logits.compute_loss(first, second))
    received = float(likely.compute_loss(softmax(first), softmax(second)))
    assert expected > 0 and received == pytest.approx(expected, rel=1e-4)
    divergence = keras.losses.KLDivergence()
    keras_own = keras.distillation.LogitsDistillation(3.0, divergence)
    own = float(keras_own.compute_loss(first, second))
    assert expected == pytest.approx(own, rel=1e-4)
    assert type(likely).from_config(likely.get_config()).temperature == 3.0


def test_kind_of_outputs() -> None:
    assert output_kind(classifier()) == "probabilities"
    assert output_kind(classifier(activation=None)) == "logits"
    regression = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    assert output_kind(regression) == "values"


def test_student_comes_near_its_teacher_which_stays() -> None:
    keras.utils.set_random_seed(0)
    teacher, student = classifier(), classifier(8)
    teacher.fit(X, Y, batch_size=16, epochs=8, verbose=0)
    before = [w.copy() for w in teacher.get_weights()]
    flags = [layer.trainable for layer in teacher.layers]
    loss = OutputDistillation()
    far = float(loss.compute_loss(teacher(X), student(X)))
    history = distill(
        student,
        teacher,
        X,
        Y,
        epochs=5,
        batch_size=16,
        verbose=0,
        student_loss_weight=0.1,
    )
    assert "accuracy" in history.history
    assert float(loss.compute_loss(teacher(X), student(X))) < 0.5 * far
    assert all(
        np.array_equal(a, b)
        for a, b in zip(before, teacher.get_weights(), strict=True)
    )
    assert [layer.trainable for layer in teacher.layers] == flags
    assert "accuracy" in student.evaluate(X, Y, verbose=0, return_dict=True)


def test_callbacks_prune_the_student_alone() -> None:
    teacher, student = classifier(), classifier()
    pruning = ks.callbacks.MagnitudePruning(
        ks.schedules.ConstantSparsity(0.5, begin_step=0)
    )
    distill(student, teacher, X, Y, verbose=0, callbacks=[pruning])
    kernels = [layer.kernel for layer in student.layers]
    assert [float(np.mean(np.asarray(k) == 0)) for k in kernels] == [0.5, 0.5]
    assert all(np.all(np.asarray(v) != 0) for v in teacher.weights[::2])


def test_regularizers_of_the_student_count() -> None:
    teacher = classifier()
    student = classifier()
    student.layers[0].kernel.regularizer = keras.regularizers.L2(1.0)
    distiller = Distiller(teacher, student)
    distiller.compile("sgd", "sparse_categorical_crossentropy")
    whole = float(distiller.compute_loss(X, Y, student(X)))
    penalty = float(keras.ops.sum(keras.ops.square(student.layers[0].kernel)))
    student.layers[0].kernel.regularizer = None
    rest = float(distiller.compute_loss(X, Y, student(X)))
    assert whole == pytest.approx(rest + penalty, rel=1e-5)
    assert {v.path for v in distiller.trainable_variables} == {
        v.path for v in student.trainable_variables
    }


def test_refusals() -> None:
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    with pytest.raises(SqueezeError, match="uncompiled"):
        distill(model, classifier(), X, Y)
    with pytest.raises(SqueezeError, match="temperature"):
        OutputDistillation(0.0)
    with pytest.raises(SqueezeError, match="outputs"):
        OutputDistillation(outputs="odds")
    with pytest.raises(SqueezeError, match="steps_per_epoch"):
        distill(classifier(), classifier(), (pair for pair in [(X, Y)]))

"""Slots of a kernel, read and turned into slots of its factors."""

import keras
import numpy as np
import pytest

from keras_squeeze.low_rank import decompositions
from keras_squeeze.surgery.layer_tree import to_numpy
from keras_squeeze.surgery.moment_projection import (
    map_slots,
    read_slots,
    steady_linear,
)

RNG = np.random.default_rng(0)


def stepped(optimizer, steps=3):
    """A variable after some steps of an optimizer, and its last gradient."""
    variable = keras.Variable(RNG.normal(size=(6, 5)).astype("float32"))
    for _ in range(steps):
        gradient = RNG.normal(size=(6, 5)).astype("float32")
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return variable


@pytest.mark.parametrize(
    ("optimizer", "names"),
    [
        (keras.optimizers.SGD(0.1), set()),
        (keras.optimizers.SGD(0.1, momentum=0.9), {"momentums"}),
        (keras.optimizers.Adam(), {"_momentums", "_velocities"}),
        (keras.optimizers.Adamax(), {"_m", "_u"}),
        (keras.optimizers.Adagrad(), {"_accumulators"}),
        (
            keras.optimizers.Adam(amsgrad=True, use_ema=True),
            {"_momentums", "_velocities", "_velocity_hats"},
        ),
    ],
    ids=["sgd", "momentum", "adam", "adamax", "adagrad", "amsgrad"],
)
def test_slots_that_can_be_projected_are_read(optimizer, names):
    variable = stepped(optimizer)
    slots = read_slots(optimizer, variable)
    assert set(slots) == names
    for name, slot in slots.items():
        held = getattr(optimizer, name)[0]
        np.testing.assert_array_equal(slot, to_numpy(held))
        assert slot.any()


def test_nothing_is_read_of_other_variables_or_without_an_optimizer():
    optimizer = keras.optimizers.Adam()
    stepped(optimizer)
    assert read_slots(optimizer, keras.Variable(np.ones((6, 5)))) == {}
    assert read_slots(None, keras.Variable(np.ones((6, 5)))) == {}


def test_moments_follow_the_chain_rule():
    svd = decompositions.get("svd")
    factors = svd.decompose(RNG.normal(size=(6, 5)), 3)
    left, right = factors
    moment, squares = RNG.normal(size=(6, 5)), RNG.random((6, 5))
    slots = {"_momentums": [moment], "_velocities": [squares], "_u": [squares]}

    def project(moments, squared):
        return svd.project(moments[0], factors, squared)

    mapped = map_slots(slots, project)
    for found, expected in [
        (mapped["_momentums"], (moment @ right.T, left.T @ moment)),
        (mapped["_velocities"], (squares @ right.T**2, left.T**2 @ squares)),
        (
            mapped["_u"],
            (
                np.sqrt(squares**2 @ right.T**2),
                np.sqrt(left.T**2 @ squares**2),
            ),
        ),
    ]:
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10)


def test_second_moments_are_never_negative():
    mapped = map_slots(
        {"_velocities": [np.ones(3)]}, lambda moments, squared: [-moments[0]]
    )
    assert not mapped["_velocities"][0].any()


@pytest.mark.parametrize("strength", [0.0, 0.01])
def test_ftrl_leaves_a_weight_with_such_a_slot_where_it_is(strength):
    optimizer = keras.optimizers.Ftrl(
        0.1, beta=0.5, l1_regularization_strength=strength
    )
    value = RNG.normal(size=(4, 3)).astype("float32")
    variable = keras.Variable(value)
    optimizer.build([variable])
    squares = to_numpy(optimizer._accumulators[0])
    optimizer._linears[0].assign(steady_linear(optimizer, value, squares))
    optimizer.apply([keras.ops.zeros((4, 3))], [variable])
    np.testing.assert_allclose(to_numpy(variable), value, rtol=1e-5)

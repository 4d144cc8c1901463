import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from keras_squeeze import schedules
from keras_squeeze.errors import SqueezeError, UnknownIdentifierError
from keras_squeeze.schedules import ConstantSparsity, PolynomialDecay

DECAY = PolynomialDecay(0.2, 0.8, begin_step=10, end_step=110)


def test_constant_sparsity_is_zero_before_it_begins():
    schedule = ConstantSparsity(0.5, begin_step=3)
    assert [schedule(step) for step in (0, 2, 3, 10**9)] == [0, 0, 0.5, 0.5]


def test_polynomial_decay_follows_the_published_formula():
    for step in range(10, 111):
        left = 1 - (step - 10) / 100
        assert DECAY(step) == pytest.approx(0.8 + (0.2 - 0.8) * left**3)


def test_polynomial_decay_begins_and_ends_exactly():
    assert [DECAY(step) for step in (0, 9, 10)] == [0.0, 0.0, 0.2]
    assert [DECAY(step) for step in (110, 111, 10**9)] == [0.8, 0.8, 0.8]


def test_polynomial_decay_of_power_one_is_a_line():
    schedule = PolynomialDecay(0.0, 0.8, 0, 4, power=1)
    np.testing.assert_allclose(
        [schedule(step) for step in range(5)], [0, 0.2, 0.4, 0.6, 0.8]
    )


def test_polynomial_decay_of_no_length_is_a_step():
    schedule = PolynomialDecay(0.0, 0.8, 5, 5)
    assert [schedule(4), schedule(5)] == [0.0, 0.8]


def test_sparsity_may_fall():
    values = [PolynomialDecay(0.9, 0.1, 0, 10)(step) for step in range(11)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(0.9)


@pytest.mark.parametrize("schedule", [ConstantSparsity(0.5, 2, 9), DECAY])
def test_config_round_trip_through_json(schedule):
    stored = json.loads(json.dumps(schedules.serialize(schedule)))
    assert schedules.get(stored) == schedule
    assert type(schedule).from_config(schedule.get_config()) == schedule
    assert eval(repr(schedule)) == schedule
    assert hash(schedules.get(stored)) == hash(schedule)


def test_schedules_of_other_arguments_differ():
    assert ConstantSparsity(0.5) != ConstantSparsity(0.6)
    assert ConstantSparsity(0.5) != PolynomialDecay(0.5, 0.5, 0, 1)


@pytest.mark.parametrize("number", [0.5, np.float32(0.5), np.float64(0.5)])
def test_a_number_is_a_constant(number):
    assert schedules.get(number) == ConstantSparsity(0.5)


def test_get_knows_names_in_both_spellings():
    config = {"initial_sparsity": 0.2, "final_sparsity": 0.8}
    config |= {"begin_step": 10, "end_step": 110}
    for name in ("PolynomialDecay", "polynomial_decay"):
        identifier = {"class_name": name, "config": config}
        assert schedules.get(identifier) == DECAY


def test_get_returns_an_object_unchanged():
    assert schedules.get(DECAY) is DECAY


def test_get_wraps_a_function():
    schedule = schedules.get(lambda step: step / 100)
    assert schedule(50) == 0.5
    assert (schedule.begin_step, schedule.end_step) == (0, None)
    assert schedule.frequency is None


def test_a_function_that_leaves_the_range_is_named():
    with pytest.raises(SqueezeError, match=r"in \[0, 1\)\. Received: 1\.5"):
        schedules.get(lambda step: 1.5)(0)


def test_a_function_cannot_be_serialized():
    with pytest.raises(SqueezeError, match=r"registered class.*Received: Call"):
        schedules.serialize(schedules.get(lambda step: 0.5))


class PairSchedule:
    """The shape of a TensorFlow Model Optimization schedule."""

    begin_step = 20
    end_step = -1
    frequency = 7

    def __call__(self, step):
        return step % 7 == 0, np.float32(0.75)


def test_get_wraps_a_schedule_that_returns_pairs():
    schedule = schedules.get(PairSchedule())
    assert [schedule(19), schedule(20), schedule(21)] == [0.0, 0.75, 0.75]
    assert schedule.end_step is None
    assert schedule.frequency == 7


_TFMOT = """
import tensorflow_model_optimization as tfmot
from keras_squeeze import schedules
theirs = tfmot.sparsity.keras.PolynomialDecay(0.2, 0.8, 10, 110, frequency=25)
ours = schedules.PolynomialDecay(0.2, 0.8, 10, 110)
wrapped = schedules.get(theirs)
for step in (0, 9, 10, 11, 60, 110, 500):
    assert abs(wrapped(step) - ours(step)) < 1e-6, step
assert (wrapped.begin_step, wrapped.end_step) == (10, 110)
assert wrapped.frequency == 25
constant = schedules.get(tfmot.sparsity.keras.ConstantSparsity(0.5, 3))
assert (constant(2), constant(3), constant.end_step) == (0.0, 0.5, None)
print("equal")
"""


def test_tfmot_schedules_give_the_same_sparsity():
    if importlib.util.find_spec("tensorflow_model_optimization") is None:
        pytest.skip("tensorflow_model_optimization is not installed")
    # In a process of its own: importing it switches TensorFlow to tf_keras.
    child = subprocess.run(
        [sys.executable, "-c", _TFMOT], capture_output=True, text=True
    )
    assert "equal" in child.stdout, child.stderr[-2000:]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstantSparsity(1.0), r"`sparsity`.*in \[0, 1\).*1\.0$"),
        (lambda: ConstantSparsity(-0.1), r"`sparsity`.*Received: -0\.1$"),
        (lambda: ConstantSparsity(float("nan")), r"Received: nan$"),
        (lambda: ConstantSparsity("0.5"), r"Received: '0\.5'$"),
        (lambda: ConstantSparsity(True), r"Received: True$"),
        (lambda: ConstantSparsity(0.5, -1), r"`begin_step`.*Received: -1$"),
        (lambda: ConstantSparsity(0.5, 1.5), r"`begin_step`.*Received: 1\.5$"),
        (
            lambda: ConstantSparsity(0.5, 9, 8),
            r"at least `begin_step`.*begin_step=9, end_step=8$",
        ),
        (
            lambda: PolynomialDecay(0.0, 0.9, 9, 8),
            r"Received: begin_step=9, end_step=8$",
        ),
        (
            lambda: PolynomialDecay(0.0, 0.9, 0, None),
            r"`end_step`.*Received: None$",
        ),
        (
            lambda: PolynomialDecay(0.0, 1.9, 0, 8),
            r"`final_sparsity`.*Received: 1\.9$",
        ),
        (
            lambda: PolynomialDecay(2, 0.9, 0, 8),
            r"`initial_sparsity`.*Received: 2$",
        ),
        (
            lambda: PolynomialDecay(0.0, 0.9, 0, 8, power=0),
            r"`power`.*positive.*Received: 0$",
        ),
        (lambda: schedules.get(1.5), r"in \[0, 1\).*Received: 1\.5$"),
        (lambda: schedules.get(None), r"Expected a schedule.*Received: None$"),
        (lambda: schedules.get(ConstantSparsity), r"Expected a schedule"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(SqueezeError, match=message):
        make()


def test_an_unknown_name_lists_the_known():
    with pytest.raises(
        UnknownIdentifierError, match=r"polynomial_decay.*Received: 'cubic'"
    ):
        schedules.get("cubic")


@pytest.mark.parametrize("frequency", [1, 7, 100, 1000])
@pytest.mark.parametrize("stride", [1, 4, 33])
def test_updates_are_crossed_exactly_at_both_ends(frequency, stride):
    steps = range(0, 300, stride)
    updates = {schedules.last_update_step(DECAY, s, frequency) for s in steps}
    expected = {None, 110, *range(10, 110, frequency)} if stride == 1 else None
    assert expected is None or updates == expected
    assert 110 in updates
    assert updates <= {None, 110, *range(10, 110, frequency)}


def test_updates_without_end_go_on():
    schedule = ConstantSparsity(0.5, begin_step=5)
    assert schedules.last_update_step(schedule, 10**6, 10) == 10**6 - 5


@pytest.mark.parametrize("schedule", [DECAY, ConstantSparsity(0.5, 7)])
@pytest.mark.parametrize("frequency", [1, 7, 1000])
def test_the_next_update_is_the_step_at_which_the_last_changes(
    schedule, frequency
):
    updates = [
        schedules.last_update_step(schedule, step, frequency)
        for step in range(1200)
    ]
    for step in range(150):
        later = (s for s in range(step, 1200) if updates[s] != updates[step])
        following = schedules.next_update_step(schedule, step, frequency)
        assert following == next(later, None)

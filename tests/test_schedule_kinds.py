"""Cosine, exponential, one-shot, piecewise and joined schedules."""

import itertools
import json
import math

import pytest

from keras_squeeze import schedules
from keras_squeeze.errors import SqueezeError
from keras_squeeze.schedules import (
    CallableSchedule,
    ConstantSparsity,
    CosineDecay,
    ExponentialDecay,
    Joined,
    OneShot,
    Piecewise,
    PolynomialDecay,
    last_update_step,
    next_update_step,
)
from keras_squeeze.testing import check_schedule

RAMP = PolynomialDecay(0.0, 0.5, 0, 20)
EPOCHS = {"unit": "epochs"}
ALL = [
    ConstantSparsity(0.5, 3),
    ConstantSparsity(0.5, 3, 50),
    OneShot(0.5, 7),
    PolynomialDecay(0.1, 0.9, 5, 100),
    CosineDecay(0.0, 0.9, 10, 110),
    CosineDecay(0.0, 0.9, 10, 10),
    ExponentialDecay(0.2, 0.9, 3, 77),
    ExponentialDecay(0.9, 0.2, 3, 77),
    ExponentialDecay(0.4, 0.4, 3, 77),
    Piecewise([10, 20, 31], [0, 0.2, 0.5, 0.8]),
    Piecewise([10], [0.3, 0.2]),
    Joined([RAMP, CosineDecay(0.5, 0.9, 10, 30)], [50]),
    Joined([OneShot(0.5, 50), 0.6], [50]),
    Joined([OneShot(0.5, 50), RAMP, OneShot(0.95, 3)], [40, 140]),
    CallableSchedule(lambda step: min(0.5, step / 100)),
    PolynomialDecay(0.1, 0.9, 0.5, 10, **EPOCHS),
    Piecewise([1.5, 3], [0, 0.2, 0.5], **EPOCHS),
    OneShot(0.3, 1.25, **EPOCHS),
    Joined(
        [OneShot(0.5, **EPOCHS), CosineDecay(0.5, 0.9, 1, 3, **EPOCHS)], [5]
    ),
    CallableSchedule(lambda epoch: min(0.5, epoch / 10), **EPOCHS),
]


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_every_schedule_keeps_the_contract(schedule):
    check_schedule(schedule)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_every_schedule_is_stored_or_says_that_it_is_not(schedule):
    if isinstance(schedule, CallableSchedule):
        with pytest.raises(SqueezeError, match="registered class"):
            schedules.serialize(schedule)
        return
    stored = json.loads(json.dumps(schedules.serialize(schedule)))
    assert schedules.get(stored) == schedule


def test_cosine_follows_half_a_cosine():
    schedule = CosineDecay(0.1, 0.9, 0, 100)
    for step in range(101):
        expected = 0.9 - 0.8 * (1 + math.cos(math.pi * step / 100)) / 2
        assert schedule(step) == pytest.approx(expected)
    assert schedule(100) == 0.9


def test_exponential_removes_equal_shares_of_the_rest():
    schedule = ExponentialDecay(0.2, 0.9, 10, 110)
    density = [1 - schedule(step) for step in range(10, 111, 10)]
    shares = [b / a for a, b in itertools.pairwise(density)]
    assert shares == pytest.approx([shares[0]] * 10)
    assert (schedule(10), schedule(110)) == (0.2, 0.9)


def test_one_shot_cuts_once():
    schedule = OneShot(0.8, 30)
    updates = {last_update_step(schedule, step, 10) for step in range(200)}
    assert updates == {None, 30}
    assert next_update_step(schedule, 30, 10) is None


def test_piecewise_updates_at_its_boundaries_whatever_the_frequency():
    schedule = Piecewise([25, 60], [0.0, 0.5, 0.8])
    updates = {last_update_step(schedule, step, 100) for step in range(200)}
    assert updates == {None, 25, 60}
    updates = {last_update_step(schedule, step, 20) for step in range(200)}
    assert updates == {None, 25, 45, 60}
    assert schedule.begin_step == 25
    assert Piecewise([25], [0.1, 0.5]).begin_step == 0


def test_joined_schedules_count_from_their_boundary():
    schedule = Joined([RAMP, CosineDecay(0.6, 0.9, 0, 30), 0.2], [50, 100])
    for step in (0, 7, 49):
        assert schedule(step) == RAMP(step)
    for step in (50, 63, 99):
        assert schedule(step) == CosineDecay(0.6, 0.9, 0, 30)(step - 50)
    assert schedule(100) == 0.2
    assert (schedule.begin_step, schedule.end_step) == (0, None)
    assert Joined([0.1, RAMP], [50]).end_step == 70


def test_between_two_schedules_the_sparsity_holds():
    schedule = Joined([RAMP, OneShot(0.9, 25)], [50])
    assert [schedule(s) for s in (50, 74, 75)] == [0.5, 0.5, 0.9]
    cut = Joined([PolynomialDecay(0, 0.8, 0, 100, 1), OneShot(0.9, 25)], [50])
    assert [cut(s) for s in (49, 50, 74)] == pytest.approx([0.392, 0.4, 0.4])


def test_joined_schedules_update_at_all_their_ends():
    schedule = Joined([RAMP, OneShot(0.9, 25)], [50])
    updates = {last_update_step(schedule, step, 1000) for step in range(200)}
    assert updates == {None, 0, 20, 75} - {None}


def test_a_schedule_that_never_begins_is_passed_over():
    schedule = Joined([OneShot(0.5, 50), 0.6], [50])
    assert [schedule(s) for s in (49, 50)] == [0.0, 0.6]
    assert schedule.milestones == (50,)


def test_a_frequency_holds_if_all_agree_on_it():
    class Every7:
        begin_step, end_step, frequency = 0, -1, 7

        def __call__(self, step):
            return True, 0.5

    assert Joined([Every7(), Every7()], [50]).frequency == 7
    assert Joined([Every7(), RAMP], [50]).frequency is None


def test_joined_functions_are_compared_but_not_stored():
    def half(step):
        return 0.5

    schedule = Joined([RAMP, half], [50])
    assert schedule == Joined([RAMP, half], [50])
    assert "half" in repr(schedule)
    with pytest.raises(SqueezeError, match=r"without functions.*Received: Joi"):
        schedules.serialize(schedule)


# Epochs ---------------------------------------------------------------------


def test_epochs_become_steps():
    schedule = PolynomialDecay(0.0, 0.9, 0.5, 3, power=2, **EPOCHS)
    assert schedule.in_steps(40) == PolynomialDecay(0, 0.9, 20, 120, power=2)
    assert schedule(1.75) == schedule.in_steps(40)(70)
    assert schedule.in_steps(40).in_steps(7) == schedule.in_steps(40)
    assert OneShot(0.5, 1 / 3, **EPOCHS).in_steps(40).begin_step == 13
    ends = Piecewise([1, 2.5], [0, 0.3, 0.6], **EPOCHS).in_steps(10)
    assert ends == Piecewise([10, 25], [0, 0.3, 0.6])


def test_joined_epochs_become_steps():
    parts = [
        ConstantSparsity(0.2, 1, **EPOCHS),
        CosineDecay(0.2, 0.9, 0, 2.5, **EPOCHS),
    ]
    expected = [ConstantSparsity(0.2, 10), CosineDecay(0.2, 0.9, 0, 25)]
    joined = Joined(parts, [3])
    assert joined.unit == "epochs"
    assert joined.in_steps(10) == Joined(expected, [30])


def test_a_function_of_the_epoch_becomes_one_of_the_step():
    schedule = CallableSchedule(lambda epoch: epoch / 10, **EPOCHS)
    assert schedule(2.5) == schedule.in_steps(100)(250) == 0.25


def test_updates_of_a_schedule_in_epochs_are_refused():
    schedule = OneShot(0.5, 2, **EPOCHS)
    for function in (last_update_step, next_update_step):
        with pytest.raises(SqueezeError, match=r"in_steps.*Received: OneShot"):
            function(schedule, 10, 5)


def test_a_schedule_of_ones_own_counts_steps():
    class Late(schedules.Schedule):
        def __init__(self):
            super().__init__(begin_step=5)

        def value(self, step):
            return 0.5

        def get_config(self):
            return {}

    check_schedule(Late())
    assert Late().unit == "steps"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneShot(0.5, unit="batches"), r"`unit`.*Received: 'batches'$"),
        (lambda: OneShot(0.5, 1.5), r"`begin_step`.*an integer.*: 1\.5$"),
        (lambda: OneShot(0.5, -0.5, "epochs"), r"a number.*Received: -0\.5$"),
        (lambda: OneShot(0.5, math.inf, "epochs"), r"Received: inf$"),
        (lambda: CosineDecay(0, 1, 0, 9), r"`final_sparsity`.*Received: 1$"),
        (lambda: ExponentialDecay(0, 0.9, 9, 8), r"end_step=8$"),
        (lambda: Piecewise([], [0.5]), r"not empty.*Received: \[\]$"),
        (lambda: Piecewise([5, 5], [0, 0.1, 0.2]), r"ascend.*\[5, 5\]$"),
        (lambda: Piecewise([5], [0.1]), r"one of `values` more.*\[0\.1\]$"),
        (lambda: Piecewise([5], [0.1, 1.0]), r"`values\[1\]`.*Received: 1\.0$"),
        (lambda: Piecewise([5.5], [0, 0.1]), r"`boundaries\[0\]`.*: 5\.5$"),
        (lambda: Joined([], []), r"at least one.*Received: \[\]$"),
        (lambda: Joined([0.5, 0.6], [1, 2]), r"2 schedules, boundaries=\[1, 2"),
        (
            lambda: Joined([0.5, OneShot(0.5, unit="epochs")], [3]),
            r"of one unit.*Received: \[0\.5",
        ),
        (
            lambda: OneShot(0.5, 1, "epochs").in_steps(0),
            r"`steps_per_epoch`.*Received: 0$",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(SqueezeError, match=message):
        make()

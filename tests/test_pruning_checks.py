"""The checks for plug-ins of pruning find the ways in which these go wrong."""

import numpy as np
import pytest

from keras_squeeze.pruning import (
    Activation,
    Channel,
    Magnitude,
    Movement,
    Unstructured,
)
from keras_squeeze.schedules import CosineDecay, PolynomialDecay, Schedule
from keras_squeeze.testing import (
    check_criterion,
    check_pattern,
    check_schedule,
)


class KeepsNothingOfZeros(Movement):
    def scores(self, kernel, **statistics):
        return -statistics["gradient_times_weight"]


class Ignores(Activation):
    def scores(self, kernel, **statistics):
        return np.abs(kernel).astype(np.float32) + 1 * (kernel != 0)


class InPlace(Magnitude):
    def scores(self, kernel, **statistics):
        return np.abs(kernel, out=kernel).astype(np.float32)


class HalfPrecision(Magnitude):
    def scores(self, kernel, **statistics):
        return np.abs(kernel)


class Drifting(Magnitude):
    def scores(self, kernel, **statistics):
        self.calls = getattr(self, "calls", 0) + 1
        return super().scores(kernel) * np.float32(self.calls)


class ForgetsArguments(Magnitude):
    def __init__(self, power=1):
        self.power = power

    def __eq__(self, other):
        return self is other

    __hash__ = Magnitude.__hash__


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (KeepsNothingOfZeros(), "below all others"),
        (Ignores(), "SqueezeError without 'activation'"),
        (InPlace(), "untouched"),
        (HalfPrecision(), "float32 or float64"),
        (Drifting(), "equal scores twice"),
        (ForgetsArguments(), "equal object"),
    ],
)
def test_bad_criteria_are_found(criterion, message):
    with pytest.raises(AssertionError, match=message):
        check_criterion(criterion)


class EmptiesAll(Unstructured):
    def mask(self, scores, sparsity, channel_axis=(-1,)):
        mask = super().mask(scores, sparsity, channel_axis)
        return mask & (sparsity < 0.99)


class Truncates(Unstructured):
    def mask(self, scores, sparsity, channel_axis=(-1,)):
        return super().mask(scores, 0.5 * sparsity, channel_axis)


class TakesAnything(Unstructured):
    def mask(self, scores, sparsity, channel_axis=(-1,)):
        sparsity = min(max(np.nan_to_num(sparsity), 0.0), 0.999)
        return super().mask(scores, sparsity, channel_axis)


class Restless(Unstructured):
    def mask(self, scores, sparsity, channel_axis=(-1,)):
        noise = np.random.default_rng(int(1000 * sparsity)).random(scores.shape)
        return super().mask(noise, sparsity, channel_axis)


class WrongSizes(Channel):
    def group_sizes(self, shape, channel_axis=(-1,)):
        return super().group_sizes(shape, channel_axis)[1:]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (EmptiesAll(), "a weight that stays"),
        (Truncates(), "the sparsity 0"),
        (TakesAnything(), "SqueezeError at sparsity"),
        (Restless(), "nested masks"),
        (WrongSizes(), "sizes"),
    ],
)
def test_bad_patterns_are_found(pattern, message):
    with pytest.raises(AssertionError, match=message):
        check_pattern(pattern)


class Counting(PolynomialDecay):
    calls = 0

    def value(self, step):
        self.calls += 1
        return min(0.9, self.calls / 1000)


class Overshooting(CosineDecay):
    def value(self, step):
        return np.float32(0.5)

    def __call__(self, step):
        return 2 * super().__call__(step)


class LosesUnit(CosineDecay):
    def get_config(self):
        return {**super().get_config(), "unit": "steps"}


class NoEnd(PolynomialDecay):
    def __call__(self, step):
        return min(0.99, step / 1000)


class Unsorted(Schedule):
    def __init__(self):
        super().__init__(5, 50)

    def value(self, step):
        return 0.5

    def get_config(self):
        return {}

    @property
    def milestones(self):
        return (50, 5)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Counting(0, 0.9, 0, 100), "pure function"),
        (Overshooting(0, 0.9, 0, 100), r"in \[0, 1\)"),
        (LosesUnit(0, 0.9, 0, 10, unit="epochs"), "epochs again"),
        (NoEnd(0, 0.9, 0, 100), "for ever"),
        (Unsorted(), "ascending"),
    ],
)
def test_bad_schedules_are_found(schedule, message):
    with pytest.raises(AssertionError, match=message):
        check_schedule(schedule)

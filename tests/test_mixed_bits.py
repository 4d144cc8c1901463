import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import choose_bits

CHOICES = (1, 2, 3, 4)


def cost(errors, bits, choices=CHOICES):
    places = [choices.index(b) for b in bits]
    return float(errors[np.arange(len(bits)), places].sum())


def least_cost(errors, sizes, average, choices=CHOICES):
    room = sum(sizes) * average + 1e-6
    return min(
        cost(errors, bits, choices)
        for bits in itertools.product(choices, repeat=len(sizes))
        if np.dot(bits, sizes) <= room
    )


def problem(seed, kernels=4):
    rng = np.random.default_rng(seed)
    errors = np.sort(rng.random((kernels, 4)), axis=1)[:, ::-1]
    return errors, rng.integers(1, 20, kernels).tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(1, 4))
def test_the_budget_holds_and_little_is_lost_to_the_best_choice(seed, average):
    errors, sizes = problem(seed)
    bits = choose_bits(errors, sizes, average, CHOICES)
    assert np.dot(bits, sizes) <= sum(sizes) * average + 1e-6
    # The hull is optimal but for the room that one step would overfill.
    smaller = max(1.0, average - 3 * max(sizes) / sum(sizes))
    assert cost(errors, bits) <= least_cost(errors, sizes, smaller) + 1e-9


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("average", [1, 1.5, 2.25, 3, 4])
def test_convex_errors_of_equal_kernels_are_solved_exactly(seed, average):
    rng = np.random.default_rng(seed)
    falls = np.sort(rng.random((4, 3)), axis=1)[:, ::-1]
    errors = 4 - np.concatenate([np.zeros((4, 1)), np.cumsum(falls, 1)], 1)
    bits = choose_bits(errors, [7] * 4, average, CHOICES)
    best = least_cost(errors, [7] * 4, average)
    assert cost(errors, bits) == pytest.approx(best, abs=1e-12)


def test_quarter_errors_a_bit_give_the_reverse_water_filling():
    variances = np.array([1.0, 4.0, 16.0])
    errors = variances[:, None] * 4.0 ** -np.arange(1, 9)
    assert choose_bits(errors, [5, 5, 5], 4) == [3, 4, 5]


def test_a_step_may_jump_over_a_choice_and_never_loses():
    errors = np.array([[5.0, 5.0, 0.0, 1.0]])
    assert choose_bits(errors, [3], 4, CHOICES) == [3]
    assert choose_bits(errors, [3], 2, CHOICES) == [1]


def test_what_is_left_is_filled_with_smaller_kernels():
    errors = np.array([[9.0, 0.0, 0.0, 0.0], [1.0, 0.5, 0.2, 0.1]])
    assert choose_bits(errors, [100, 1], 1.02, CHOICES) == [1, 3]


def test_empty_kernels_and_no_kernels():
    assert choose_bits(np.zeros((0, 4)), [], 2, CHOICES) == []
    errors = np.array([[3.0, 2.0, 1.0, 0.0]])
    assert choose_bits(errors, [0], 1, CHOICES) == [4]


@pytest.mark.parametrize(
    "arguments",
    [
        ([[1.0, 0.0]], [1], 2, CHOICES),
        ([[1.0, 0.0]], [1, 2], 2, (1, 2)),
        ([[1.0, np.nan]], [1], 2, (1, 2)),
        ([[1.0, 0.0]], [-1], 2, (1, 2)),
        ([[1.0, 0.0]], [1], 0.5, (1, 2)),
        ([[1.0, 0.0]], [1], float("nan"), (1, 2)),
        ([[1.0, 0.0]], [1], 2, (2, 1)),
    ],
)
def test_bad_arguments(arguments):
    with pytest.raises(SqueezeError, match="Received"):
        choose_bits(*arguments)

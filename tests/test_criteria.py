"""What each criterion says of weights of which one knows what matters."""

import numpy as np
import pytest

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning import (
    SNIP,
    Activation,
    BatchNormScale,
    GradientL1,
    GradientL2,
    Magnitude,
    Movement,
    Random,
    Taylor,
    Unstructured,
    WeightL2,
    criteria,
)
from keras_squeeze.testing import check_criterion

INF = np.inf
KERNEL = np.array([[1.0, -2.0], [0.0, 0.5]], np.float32)
PRODUCT = np.array([[0.5, -3.0], [9.0, 2.0]], np.float32)
SIGNED = {"gradient_times_weight": PRODUCT}


@pytest.mark.parametrize("name", sorted(criteria.registry))
def test_every_criterion_keeps_the_contract(name):
    check_criterion(criteria.get(name))


@pytest.mark.parametrize(
    ("criterion", "statistics", "expected"),
    [
        (Magnitude(), {}, [[1, 2], [0, 0.5]]),
        (WeightL2(), {}, [[1, 4], [0, 0.25]]),
        (GradientL1(), {"gradient_l1": np.abs(PRODUCT)}, [[0.5, 3], [-INF, 2]]),
        (GradientL2(), {"gradient_l2": np.abs(PRODUCT)}, [[0.5, 3], [-INF, 2]]),
        (Taylor(), SIGNED, [[0.5, 3], [-INF, 2]]),
        (Movement(), SIGNED, [[-0.5, 3], [-INF, -2]]),
        (SNIP(), {"gradient": PRODUCT}, [[0.5, 6], [-INF, 1]]),
        (Activation(), {"activation": [[2.0], [8.0]]}, [[2, 4], [-INF, 4]]),
        (BatchNormScale(), {"scale": [-3.0, 0.1]}, [[3, 0.1], [-INF, 0.1]]),
    ],
)
def test_scores_follow_the_formula(criterion, statistics, expected):
    arrays = {k: np.array(v, np.float32) for k, v in statistics.items()}
    scores = criterion.scores(KERNEL, **arrays)
    np.testing.assert_allclose(scores, np.array(expected, np.float32))
    # What another criterion gathers does no harm.
    more = criterion.scores(KERNEL, **arrays, other=KERNEL)
    np.testing.assert_array_equal(more, scores)


def test_weight_l1_is_magnitude():
    assert criteria.get("weight_l1") == Magnitude() == criteria.get("Magnitude")


def test_taylor_is_the_change_of_a_linear_loss():
    rng = np.random.default_rng(0)
    kernel, slope = rng.normal(size=(2, 5, 3)).astype(np.float32)
    change = [
        np.sum(slope * kernel)
        - np.sum(slope * np.where(np.arange(15).reshape(5, 3) == k, 0, kernel))
        for k in range(15)
    ]
    scores = Taylor().scores(kernel, gradient_times_weight=slope * kernel)
    np.testing.assert_allclose(scores.ravel(), np.abs(change), rtol=1e-4)


def test_movement_prunes_what_shrinks_not_what_is_small():
    kernel = np.array([5.0, 0.1])
    # The large weight is driven towards zero, the small one away from it.
    gradient = np.array([1.0, -1.0])
    scores = Movement().scores(kernel, gradient_times_weight=gradient * kernel)
    np.testing.assert_array_equal(Unstructured().mask(scores, 0.5), [0, 1])


def test_activation_differs_from_magnitude_where_inputs_differ():
    kernel = np.array([[3.0, 1.0], [2.0, 2.0]])
    scores = Activation().scores(kernel, activation=np.array([[0.1], [10.0]]))
    keep = Unstructured(per_channel=True).mask(scores, 0.5)
    np.testing.assert_array_equal(keep, [[0, 0], [1, 1]])


def test_random_depends_on_seed_and_shape_alone():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 40, 30))
    scores = Random(3).scores(first)
    np.testing.assert_array_equal(Random(3).scores(second), scores)
    assert np.abs(Random(4).scores(first) - scores).mean() > 0.2
    turned = Random(3).scores(first.reshape(30, 40)).ravel()
    assert not np.array_equal(turned, scores.ravel())
    assert abs(scores.mean() - 0.5) < 0.03
    assert scores.min() >= 0
    assert scores.max() < 1


def test_random_gives_the_same_stream_on_every_machine():
    scores = Random(7).scores(np.ones(3))
    np.testing.assert_array_equal(
        scores * 2**24, [16358348.0, 14840575.0, 3891818.0]
    )


def test_random_masks_of_growing_sparsity_are_nested():
    kernel = np.random.default_rng(0).normal(size=(20, 30))
    criterion, pattern = Random(1), Unstructured()
    early = pattern.mask(criterion.scores(kernel), 0.4)
    late = pattern.mask(criterion.scores(kernel * early), 0.7)
    assert not np.any(late & ~early)


def test_a_missing_statistic_is_named_with_its_user_and_shape():
    message = r"'activation'.*Activation\(\).*\(2, 2\).*Received: \['scale'\]$"
    with pytest.raises(SqueezeError, match=message):
        Activation().scores(KERNEL, scale=KERNEL)


def test_a_statistic_of_another_shape_is_refused():
    message = r"'scale'.*broadcast.*\(2, 2\)\. Received: shape \(3,\)$"
    with pytest.raises(SqueezeError, match=message):
        BatchNormScale().scores(KERNEL, scale=np.ones(3))


@pytest.mark.parametrize("seed", [-1, 1.5, "0", True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(SqueezeError, match=r"`seed`.*Received: "):
        Random(seed)


def test_bfloat16_kernels_and_statistics_are_taken():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kernel = KERNEL.astype(ml_dtypes.bfloat16)
    scores = SNIP().scores(kernel, gradient=PRODUCT.astype(ml_dtypes.bfloat16))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [[0.5, 6], [-INF, 1]])

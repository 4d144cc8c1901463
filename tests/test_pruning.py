import json
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_squeeze import pruning
from keras_squeeze.errors import SqueezeError, UnknownIdentifierError
from keras_squeeze.pruning import (
    Magnitude,
    Unstructured,
    allocations,
    criteria,
    patterns,
    regrowths,
)

FEW = settings(max_examples=50, deadline=None)
_KERNELS = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=8),
    elements=st.floats(-4, 4, width=16),
)


@FEW
@given(_KERNELS, st.floats(0, 1, exclude_max=True))
def test_exactly_the_count_is_pruned_and_one_survives(kernel, sparsity):
    keep = Unstructured().mask(Magnitude().scores(kernel), sparsity)
    pruned = kernel.size - np.count_nonzero(keep)
    assert pruned == min(round(sparsity * kernel.size), kernel.size - 1)
    assert keep.shape == kernel.shape
    assert keep.dtype == bool


@FEW
@given(_KERNELS, st.floats(0, 1, exclude_max=True))
def test_no_pruned_weight_is_larger_than_a_kept_one(kernel, sparsity):
    keep = Unstructured().mask(Magnitude().scores(kernel), sparsity)
    if keep.all():
        return
    assert np.abs(kernel[~keep]).max() <= np.abs(kernel[keep]).min()


@FEW
@given(_KERNELS, st.floats(0, 0.9), st.floats(0, 0.9))
def test_masks_of_growing_sparsity_are_nested(kernel, first, second):
    low, high = sorted((first, second))
    early = Unstructured().mask(Magnitude().scores(kernel), low)
    late = Unstructured().mask(Magnitude().scores(kernel * early), high)
    assert not np.any(late & ~early & (kernel != 0))


@FEW
@given(_KERNELS, st.floats(0, 0.99))
def test_a_mask_is_recovered_from_the_weights(kernel, sparsity):
    kernel = np.where(kernel == 0, 1, kernel)
    keep = Unstructured().mask(Magnitude().scores(kernel), sparsity)
    pruned = Magnitude().scores(kernel * keep)
    np.testing.assert_array_equal(Unstructured().mask(pruned, sparsity), keep)


def test_ties_go_by_position():
    keep = Unstructured().mask(np.ones((2, 3)), 0.5)
    np.testing.assert_array_equal(keep, [[0, 0, 0], [1, 1, 1]])


def test_nan_matters_most():
    scores = np.array([np.nan, 1.0, np.nan, np.nan, 0.5])
    keep = Unstructured().mask(scores, 0.4)
    np.testing.assert_array_equal(keep, [1, 0, 1, 1, 0])
    keep = Unstructured().mask(scores, 0.8)
    assert np.count_nonzero(keep) == 1


def test_bfloat16_kernels_are_ranked():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kernel = np.array([3.0, -0.5, 1.0, -4.0], dtype=ml_dtypes.bfloat16)
    keep = Unstructured().mask(Magnitude().scores(kernel), 0.5)
    np.testing.assert_array_equal(keep, [1, 0, 0, 1])


def test_sparsity_zero_keeps_all_and_one_weight_stays():
    assert Unstructured().mask(np.zeros((4, 4)), 0.0).all()
    assert np.count_nonzero(Unstructured().mask(np.ones((4, 4)), 0.999)) == 1
    assert Unstructured().mask(np.ones((1,)), 0.999).all()


@pytest.mark.parametrize("share_of_zeros", [0.0, 0.75])
def test_a_million_weights_take_less_than_a_full_sort(share_of_zeros):
    rng = np.random.default_rng(0)
    scores = rng.random(1_000_000, dtype=np.float32)
    scores[rng.random(scores.size) < share_of_zeros] = 0

    def best(function):
        spans = []
        for _ in range(3):
            begin = time.perf_counter()
            function()
            spans.append(time.perf_counter() - begin)
        return min(spans)

    ours = best(lambda: Unstructured().mask(scores, 0.8))
    assert ours < best(lambda: np.argsort(scores, kind="stable"))


@pytest.mark.parametrize(
    ("table", "name", "kind"),
    [
        (criteria, "magnitude", Magnitude),
        (patterns, "unstructured", Unstructured),
    ],
)
def test_get_takes_name_config_and_object(table, name, kind):
    entry = table.get(name)
    assert isinstance(entry, kind)
    assert table.get(kind.__name__) == entry
    config = {"class_name": kind.__name__, "config": entry.get_config()}
    assert table.get(config) == entry
    assert table.get(entry) is entry
    assert table.get(table.serialize(entry)) == entry
    assert repr(entry).startswith(f"{kind.__name__}(")


class Foreign:
    def scores(self, kernel):
        return kernel

    def mask(self, scores, sparsity, channel_axis=(-1,)):
        return scores > 0

    def sparsities(self, scores, names, sparsity, pattern, channel_axes):
        return [sparsity] * len(scores)

    def regrow(self, keep, scores, step, end_step, rng):
        return keep


TABLES = [criteria, patterns, allocations, regrowths]


@pytest.mark.parametrize("table", TABLES)
def test_get_takes_any_object_of_the_contract(table):
    foreign = Foreign()
    assert table.get(foreign) is foreign
    with pytest.raises(SqueezeError, match=r"registered class.*Received: "):
        table.serialize(foreign)


@pytest.mark.parametrize("table", TABLES)
def test_every_name_makes_an_object_that_its_config_makes_again(table):
    for name in table.registry:
        if name == "per_layer":
            continue
        entry = table.get(name)
        stored = json.loads(json.dumps(table.serialize(entry)))
        assert table.get(stored) == entry
        assert table.get(type(entry).__name__) == entry
        assert eval(repr(entry), vars(pruning)) == entry


@pytest.mark.parametrize("table", TABLES)
def test_unknown_names_list_the_known(table):
    known = re.escape(str(sorted(table.registry)))
    with pytest.raises(
        UnknownIdentifierError, match=rf"{known}.*Received: 'magnitud'"
    ):
        table.get("magnitud")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("identifier", [None, 3, Magnitude, ["x"]])
def test_other_identifiers_are_refused(table, identifier):
    with pytest.raises(SqueezeError, match=r"Expected a .*Received: "):
        table.get(identifier)


def test_a_config_that_does_not_fit_is_refused():
    with pytest.raises(UnknownIdentifierError, match=r"no arg.*Received.*pow"):
        criteria.get({"class_name": "magnitude", "config": {"power": 2}})


def test_live_pruning_is_reached_when_it_is_touched():
    assert {"Pruner", "apply"} <= set(dir(pruning))
    with pytest.raises(AttributeError, match=r"'prune'; it has .*apply"):
        pruning.prune  # noqa: B018

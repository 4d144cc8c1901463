import numpy as np
import pytest

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import (
    AbsMaxQuantizer,
    EntropyQuantizer,
    PercentileQuantizer,
)
from keras_squeeze.quantizers.divergence import least_divergent_threshold
from keras_squeeze.quantizers.percentile import magnitude_percentile


def normal(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("percentile", [0.5, 50, 99.9, 100])
def test_percentile_of_the_values_above_zero(percentile):
    rows = np.abs(normal(4, 301))
    rows[1, :200] = 0
    rows[2] = 0
    expected = [
        np.percentile(row[row > 0].astype(float), percentile)
        if row.any()
        else 0
        for row in rows
    ]
    found = magnitude_percentile(rows, percentile)
    assert found == pytest.approx(np.array(expected), rel=1e-6)


def test_hundredth_percentile_is_absmax():
    weights = normal(3, 3, 4, 5)
    tensors = [
        quantizer.encode(weights, axis=3)
        for quantizer in (
            AbsMaxQuantizer(5),
            PercentileQuantizer(5, percentile=100),
        )
    ]
    assert np.array_equal(tensors[0].codes, tensors[1].codes)
    assert np.array_equal(tensors[0].scale, tensors[1].scale)


def test_percentile_does_not_see_pruned_weights():
    weights = normal(1, 1000)
    pruned = np.concatenate([weights, np.zeros((1, 9000), "f")], axis=1)
    quantizer = PercentileQuantizer(4, percentile=99)
    scales = [quantizer.encode(w, axis=0).scale for w in (weights, pruned)]
    assert np.array_equal(*scales) and scales[0] > 0


@pytest.mark.parametrize(
    "percentile", [0, -1, 100.5, np.nan, np.inf, "99", None, True]
)
def test_percentile_out_of_range(percentile):
    with pytest.raises(SqueezeError, match=r"100.*Received: percentile="):
        PercentileQuantizer(percentile=percentile)


def divergence_by_definition(counts, end, largest_code):
    clipped = counts[:end].astype(float)
    clipped[-1] += counts[end:].sum()
    centres = (np.arange(end) + 0.5) / end * largest_code
    # A bin in the middle between two codes has the upper one.
    codes = np.floor(centres + 0.5)
    shared = np.zeros(end)
    for code in range(largest_code + 1):
        filled = (codes == code) & (clipped > 0)
        if filled.any():
            mass = counts[:end][codes == code].sum()
            shared[filled] = mass / filled.sum()
    p, q = clipped / clipped.sum(), shared / counts[:end].sum()
    if np.any(q[p > 0] == 0):
        return np.inf
    return np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0]))


@pytest.mark.parametrize("largest_code", [1, 7, 127])
def test_threshold_is_that_of_the_least_divergence(largest_code):
    magnitudes = np.abs(normal(4000, seed=2)) ** 2
    magnitudes[:1500] = 0
    peak = magnitudes.max()
    found = least_divergent_threshold(
        magnitudes[None], np.array([peak], float), largest_code
    )
    bins = 2048
    counts = np.histogram(
        magnitudes[magnitudes > 0] / peak, bins=bins, range=(0, 1)
    )[0]
    ends = range(bins, bins // 16, -16)
    divergence = [
        divergence_by_definition(counts, e, largest_code) for e in ends
    ]
    assert found[0] == ends[int(np.argmin(divergence))] / bins
    assert 1 / 16 < found[0] < 1


def test_entropy_clips_a_far_outlier():
    weights = normal(2, 4000)
    weights[0, 0] = 40
    scale = EntropyQuantizer(4).encode(weights, axis=0).scale.ravel()
    assert scale[0] < 10 / 7 and scale[0] < 3 * scale[1]


@pytest.mark.parametrize("bits", [4, 16])
def test_entropy_without_a_histogram_is_absmax(bits):
    weights = normal(5, 60)
    tensors = [
        q(bits).encode(weights, 0) for q in (AbsMaxQuantizer, EntropyQuantizer)
    ]
    assert np.array_equal(tensors[0].scale, tensors[1].scale)

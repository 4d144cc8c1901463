"""Tables by integer arithmetic against floating point."""

import math

import numpy as np
import pytest

from keras_squeeze.codecs import context_mixing_model as models
from keras_squeeze.codecs import context_mixing_tables as tables


def test_squash_is_the_logistic_function():
    x = np.arange(-tables.DOMAIN, tables.DOMAIN + 1) / 256
    exact = 65536 / (1 + np.exp(-x))
    assert np.abs(tables.squash() - exact).max() <= 2
    assert tables.squash().min() > 0 and tables.squash().max() < 65536
    assert (np.diff(tables.squash()) >= 0).all()


def test_stretch_is_its_inverse():
    back = tables.squash()[tables.stretch() + tables.DOMAIN]
    middles = np.arange(4096) * 16 + 8
    assert (np.abs(back - middles) <= middles * (65536 - middles) / 2**23).all()


def test_logarithms():
    exact = 256 * np.log2(1 + np.arange(256) / 256)
    assert np.abs(tables.logarithms() - exact).max() <= 0.51


def test_survival_is_laplace_and_gauss():
    x = np.arange(0, 20, 0.25)
    means = np.full((1, 1), 1 << 16)
    got = tables.survive((x * 64).astype(np.int64), means * 32)[0] / 2**44
    exact = [
        0.35 * math.exp(-v) + 0.65 * math.erfc(v / math.sqrt(math.pi))
        for v in x
    ]
    np.testing.assert_allclose(got, exact, rtol=1e-3, atol=1e-9)


def test_buckets():
    for bucket in range(120):
        first, after = map(tables.bucket_start, (bucket, bucket + 1))
        assert tables.bucket_of(first) == tables.bucket_of(after - 1) == bucket
        if bucket >= tables.EXACT:
            assert after - first == 1 << (bucket >> 2) - 1
    assert tables.bucket_start(120) == 1 << 31


@pytest.mark.parametrize("hole,shift", [(1, 0), (1, 9), (12, 0)])
def test_class_means_reproduce_the_mean(hole, shift):
    means = tables.class_means(24, hole, shift) / 65536
    random = np.random.default_rng(0)
    for scale_class in (36, 44, 52):
        weights = np.abs(_weights(random, means[scale_class], 400_000))
        levels = np.rint(weights - shift / 2)
        levels[levels < hole] = 0
        wanted = 2 ** ((scale_class + 0.5) / 4 - tables.SCALE_OCTAVES)
        assert levels.mean() == pytest.approx(wanted, rel=0.05)


def _weights(random, mean, count):
    gauss = random.normal(size=count) * mean * math.sqrt(math.pi / 2)
    laplace = random.laplace(size=count) * mean
    return np.where(random.random(count) < 0.35, laplace, gauss)


@pytest.mark.parametrize("trellis", [False, True])
def test_priors_are_probabilities(trellis):
    for buckets in (2, 3, 8, 24, 120):
        priors = tables.priors(buckets, trellis)
        assert priors.nodes.shape[1] == models.mixer_sets(buckets, trellis).size
        assert (priors.nodes >> 16).min() > 0
        assert priors.starts.max() <= buckets - 2
        assert (np.diff(priors.starts, axis=1) >= 0).all()


def test_the_order_of_contexts_fits_their_sizes():
    model = models.Model(24, 50, 2)
    sizes = model.context_sizes(9, 64)
    for context, size in enumerate(sizes):
        classes = [model.prior_class(context, i) for i in range(size)]
        assert min(classes) >= 0 and max(classes) < model.classes

import json

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze import artifact
from keras_squeeze.errors import ModelMismatchError
from keras_squeeze.factorizing import factorize
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.surgery import copy_model, named_variables, walk_layers
from keras_squeeze.surgery.low_rank_structure import (
    describe_low_rank_layers,
    factor_shapes,
    restore_low_rank_layers,
    without_factors,
)
from tests import low_rank_models as models

L = keras.layers


@pytest.fixture(scope="module")
def own():
    """A user's model, the same of low rank, and a batch."""
    model, x = models.make("own")
    return model, factorize(model, rank=2)[0], x


@pytest.fixture(scope="module")
def quantized(own):
    return ks.quantize(own[1], bits=4)[0]


def structure(model):
    return [(path, type(layer)) for path, layer in walk_layers(model)]


def same(first, second, x):
    pairs = zip(
        models.outputs(first, x), models.outputs(second, x), strict=True
    )
    return all(np.array_equal(a, b) for a, b in pairs)


def fresh():
    model = models.OwnModel(name="other")
    model(np.zeros((1, 5), "int32"))
    return model


def test_description_is_json_in_model_order(own):
    specs = describe_low_rank_layers(own[1])
    assert json.loads(json.dumps(specs)) == specs
    assert specs[0] == {
        "path": "embedding",
        "class_name": "LowRankEmbedding",
        "method": "svd",
        "rank": [2],
    }
    assert "attention/query" in [spec["path"] for spec in specs]
    assert describe_low_rank_layers(own[0]) == []


def test_restoring_makes_the_same_structure(own):
    model, smaller, _ = own
    copy = copy_model(model)
    specs = describe_low_rank_layers(smaller)
    restore_low_rank_layers(copy, specs)
    assert structure(copy) == structure(smaller)
    shapes = {p: v.shape for p, v in named_variables(smaller).items()}
    assert {p: v.shape for p, v in named_variables(copy).items()} == shapes
    factors = [x for _, x in walk_layers(copy) if isinstance(x, LowRankLayer)]
    restore_low_rank_layers(copy, specs)
    again = [x for _, x in walk_layers(copy) if isinstance(x, LowRankLayer)]
    assert [a is b for a, b in zip(factors, again, strict=True)]


def test_layers_without_the_factors_pair_with_those_of_the_whole(own):
    model, smaller, _ = own
    names = [layer.name for layer in without_factors(smaller)]
    assert names[1:] == [layer.name for _, layer in walk_layers(model)][1:]


@pytest.mark.parametrize(
    "change",
    [
        {"path": "nowhere"},
        {"class_name": "LowRankConv2D"},
        {"method": "channel_svd"},
        {"rank": [1000]},
        {"rank": [2, 2]},
        {"path": "attention/softmax"},
    ],
    ids=str,
)
def test_what_does_not_fit_changes_nothing(own, change):
    model = copy_model(own[0])
    before = structure(model)
    specs = describe_low_rank_layers(own[1])
    specs[-1] = {**specs[-1], **change}
    with pytest.raises(ModelMismatchError, match="Received"):
        restore_low_rank_layers(model, specs)
    assert structure(model) == before


def test_other_ranks_than_the_layer_has_are_refused(own):
    smaller = copy_model(own[1])
    specs = describe_low_rank_layers(smaller)
    specs[0] = {**specs[0], "rank": [3]}
    with pytest.raises(ModelMismatchError, match=r"rank \[3\]"):
        restore_low_rank_layers(smaller, specs)


def test_factor_shapes_are_those_of_the_sublayers(own):
    model, smaller, _ = own
    whole, low = dict(walk_layers(model)), dict(walk_layers(smaller))
    for spec in describe_low_rank_layers(smaller):
        layer = low[spec["path"]]
        kernels = [factor.weights[0] for factor in layer.factors]
        assert factor_shapes(whole[spec["path"]], spec) == [
            tuple(kernel.shape) for kernel in kernels
        ]


def test_copies_are_equal(own, quantized):
    _, smaller, x = own
    for model in (smaller, quantized):
        copy = copy_model(model)
        assert structure(copy) == structure(model)
        assert same(copy, model, x)


def test_factors_can_be_quantized_and_are_exported(own, quantized, tmp_path):
    x = own[2]
    found = [
        path
        for path, layer in walk_layers(quantized)
        if type(layer).__name__.startswith("Quantized")
    ]
    assert "attention/query/reduce" in found
    for model in (own[1], quantized):
        path = tmp_path / "m.h5"
        ks.export(model, path)
        manifest = artifact.read(path).manifest.model
        assert manifest["low_rank_layers"] == describe_low_rank_layers(model)
        for load in (ks.load_model, keras.models.load_model):
            loaded = load(path)
            kinds = [type(layer) for _, layer in walk_layers(model)]
            assert [type(layer) for _, layer in walk_layers(loaded)] == kinds
            assert same(loaded, model, x)


def test_files_of_whole_models_do_not_name_low_rank_layers(own, tmp_path):
    ks.export(own[0], tmp_path / "m.h5")
    manifest = artifact.read(tmp_path / "m.h5").manifest.model
    assert "low_rank_layers" not in manifest


def test_weights_are_loaded_into_a_whole_model(own, quantized, tmp_path):
    x = own[2]
    # Keras numbers the sublayers of every new model anew.
    for source, target in ((quantized, fresh()), (own[1], copy_model(own[1]))):
        ks.export(source, tmp_path / "m.h5")
        ks.load_weights(target, tmp_path / "m.h5")
        assert same(target, source, x)


def test_weights_that_do_not_fit_change_nothing(tmp_path):
    def make(units, use_bias=True):
        layer = L.Dense(units, use_bias=use_bias, name="hidden")
        return keras.Sequential([keras.Input((24,)), layer])

    low = models.at_full_rank(make(20))
    ks.export(low, tmp_path / "m.h5")
    for other in (make(28), make(20, use_bias=False)):
        before = structure(other)
        with pytest.raises(ModelMismatchError, match="Received"):
            ks.load_weights(other, tmp_path / "m.h5")
        assert structure(other) == before


def test_low_rank_layers_of_a_graph_come_back_from_plain_keras(tmp_path):
    model, x = models.make("convolutions")
    low = models.at_full_rank(model)
    low.save(tmp_path / "m.keras")
    assert same(keras.models.load_model(tmp_path / "m.keras"), low, x)
    small = ks.quantize(low, bits=4, filters="left|first")[0]
    ks.export(small, tmp_path / "m.h5")
    assert same(ks.load_model(tmp_path / "m.h5"), small, x)

"""Training for the coder, in a running fit."""

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.callbacks import RatePenalty
from keras_squeeze.errors import NoKernelMatchedError, SqueezeError
from keras_squeeze.layers.quantized_kernel import QuantizedKernel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(512, 32)).astype("float32")
Y = np.argmax(X[:, :4] + 0.5 * np.abs(X[:, 4:8]), -1)


def small_model(units=64, rate=5e-3, run_eagerly=True):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32,), name="inputs"),
            keras.layers.Dense(units, activation="relu", name="hidden"),
            keras.layers.Dense(4, name="head"),
        ],
        name="small",
    )
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=run_eagerly,
    )
    return model


def fit(model, callbacks, epochs=2, **arguments):
    arguments = {"batch_size": 128, "shuffle": False, **arguments}
    history = model.fit(
        X, Y, epochs=epochs, verbose=0, callbacks=callbacks, **arguments
    )
    return history.history


def codes(model):
    return {
        layer.name: layer.quantized_kernel().codes
        for layer in model.layers
        if isinstance(layer, QuantizedKernel)
    }


@pytest.fixture(scope="module")
def trained():
    """A fit under a heavy penalty, and its figures."""
    model = small_model(units=128, run_eagerly=False)
    penalty = RatePenalty(weight=0.5, ramp=0.0)
    return model, fit(model, [penalty], epochs=8, batch_size=32)


def test_kernels_become_cheap_integers(trained, tmp_path):
    model, history = trained
    assert all(isinstance(layer, QuantizedKernel) for layer in model.layers)
    assert np.mean(codes(model)["hidden"] == 0) > 0.6
    assert history["rate_weight"] == pytest.approx([0.5] * 8)
    path = tmp_path / "model.h5"
    ks.export(model, path)
    assert path.stat().st_size == pytest.approx(
        history["rate_bytes"][-1], rel=0.05
    )
    np.testing.assert_array_equal(
        ks.load_model(path).predict(X, verbose=0), model.predict(X, verbose=0)
    )


def test_the_task_is_learned_too(trained):
    model, _ = trained
    scores = model.predict(X, verbose=0)
    assert np.mean(np.argmax(scores, -1) == Y) > 0.8


def test_without_weight_the_file_stays_large(trained):
    history = fit(small_model(units=128), [RatePenalty(weight=1e-6)], epochs=1)
    assert trained[1]["rate_bytes"][-1] < 0.8 * history["rate_bytes"][-1]


def test_file_meets_the_target(tmp_path):
    model = small_model(units=256, run_eagerly=False)
    path, target = tmp_path / "model.h5", 3_900
    penalty = RatePenalty(target_bytes=target, frequency=4)
    history = fit(model, [penalty], epochs=10, batch_size=32)
    assert history["rate_bytes"][0] > 1.3 * target
    ks.export(model, path)
    assert 0.9 * target <= path.stat().st_size <= 1.01 * target


def test_nothing_is_left_behind(trained):
    model, _ = trained
    assert not model.losses
    assert [v.name for v in model.trainable_variables] == ["bias"] * 2
    before = codes(model)
    fit(model, [], epochs=1)
    for name, each in codes(model).items():
        np.testing.assert_array_equal(each, before[name])


class Interruption(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def test_resumed_training_equals_the_uninterrupted_one(tmp_path):
    def penalty():
        return RatePenalty(target_bytes=3_000, frequency=2)

    whole, resumed = small_model(), small_model()
    expected = fit(whole, [penalty()], epochs=2)

    def callbacks():
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return [penalty(), backup]

    with pytest.raises(KeyboardInterrupt):
        fit(small_model(), [*callbacks(), Interruption(1)], epochs=2)
    found = fit(resumed, callbacks(), epochs=2)
    for name in ("loss", "rate_bytes", "rate_weight"):
        np.testing.assert_allclose(found[name], expected[name][1:], rtol=1e-6)
    for name, each in codes(whole).items():
        np.testing.assert_array_equal(codes(resumed)[name], each)


def test_pruned_weights_stay_zero():
    model = small_model()
    pruning = ks.callbacks.MagnitudePruning(0.7, filters="hidden", frequency=4)
    history = fit(model, [pruning, RatePenalty(weight=0.01)], epochs=2)
    assert history["sparsity"][-1] == pytest.approx(0.7, abs=0.05)
    assert np.mean(codes(model)["hidden"] == 0) >= 0.699


def test_factors_are_rated():
    model = small_model(units=32)
    low_rank = ks.callbacks.LowRankFactorization(
        rank=4, begin_epoch=1, filters="hidden"
    )
    penalty = RatePenalty(weight=0.1, begin_epoch=2)
    history = fit(model, [low_rank, penalty], epochs=3)
    assert len(history["rate_bytes"]) == 1
    hidden = model.layers[0]
    assert all(isinstance(f, QuantizedKernel) for f in hidden.factors)


def test_each_channel_learns_a_step_of_its_own(tmp_path):
    model = small_model(units=32)
    penalty = RatePenalty(weight=0.3, granularity="per_channel")
    history = fit(model, [penalty], epochs=2, batch_size=32)
    for layer, channels in zip(model.layers, (32, 4), strict=True):
        scale = layer.quantized_kernel().scale
        assert scale.shape == (channels, 1)
        assert len(np.unique(scale)) > channels // 2
    path = tmp_path / "model.h5"
    ks.export(model, path)
    assert path.stat().st_size == pytest.approx(
        history["rate_bytes"][-1], rel=0.05
    )
    np.testing.assert_array_equal(
        ks.load_model(path).predict(X, verbose=0), model.predict(X, verbose=0)
    )


def test_only_what_filters_match():
    model = small_model()
    fit(model, [RatePenalty(weight=0.1, filters="hidden")], epochs=1)
    assert list(codes(model)) == ["hidden"]
    with pytest.raises(NoKernelMatchedError, match="nowhere"):
        fit(small_model(), [RatePenalty(weight=0.1, filters="nowhere")])


def test_regularizers_of_the_model_are_kept():
    model = small_model()
    own = keras.regularizers.L2(0.1)
    kernel = model.layers[0].kernel
    kernel.regularizer = own
    penalty = RatePenalty(weight=0.2, ramp=0.0)
    penalty.set_model(model)
    penalty.set_params({"epochs": 1, "steps": 4})
    penalty.on_train_begin()
    penalty.on_epoch_begin(0)
    penalty.on_train_batch_begin(0)
    parts = [float(kernel.regularizer(kernel)), float(own(kernel))]
    assert parts[0] > parts[1] > 0
    penalty.live.update(0.0)
    penalty.on_train_end()
    assert kernel.regularizer is own


def test_convolutions_in_mixed_precision():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16"),
            keras.layers.DepthwiseConv2D(3, dtype="mixed_bfloat16"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    model.compile("adam", "mse", run_eagerly=True)
    x = RNG.normal(size=(8, 8, 8, 2))
    penalty = RatePenalty(weight=0.1)
    history = model.fit(x, np.zeros((8, 4)), verbose=0, callbacks=[penalty])
    assert np.isfinite(history.history["rate_bytes"]).all()
    assert len(codes(model)) == 2


def test_target_below_what_is_not_kernels():
    model = small_model()
    with pytest.raises(SqueezeError, match="beside its kernels"):
        fit(model, [RatePenalty(target_bytes=1_000)], epochs=1)
    assert type(model.layers[0]) is keras.layers.Dense


def test_warns_if_it_never_begins():
    with pytest.warns(UserWarning, match="begin_epoch=5"):
        fit(small_model(), [RatePenalty(weight=0.1, begin_epoch=5)], epochs=1)


def test_verbose_tells_bytes_and_weight(capsys):
    fit(small_model(), [RatePenalty(weight=0.1, ramp=0, verbose=1)], epochs=1)
    assert "bytes at a weight of 0.1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"weight": 1.0, "target_bytes": 1000},
        {"weight": -1.0},
        {"weight": float("nan")},
        {"target_bytes": 0},
        {"weight": "much"},
        {"weight": 1.0, "ramp": 2},
        {"weight": 1.0, "granularity": "per_row"},
        {"weight": 1.0, "begin_epoch": -1},
        {"weight": 1.0, "frequency": 0},
        {"weight": 1.0, "profile": "tiny"},
    ],
)
def test_bad_arguments(arguments):
    with pytest.raises(SqueezeError, match="Received"):
        RatePenalty(**arguments)


def test_methods_before_the_training():
    with pytest.raises(SqueezeError, match="on_train_begin"):
        RatePenalty(weight=1.0).on_epoch_end(0)

"""The callback: kernels are rounded inside a running fit."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_squeeze as ks
from keras_squeeze.callbacks import QuantizationAwareTraining
from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers import QuantizationAware, QuantizedKernel
from keras_squeeze.surgery.layer_tree import walk_layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 12)).astype("float32")
Y = (X @ RNG.normal(size=(12, 4))).argmax(1)


def make_model(optimizer="sgd", **arguments):
    if "steps_per_execution" not in arguments:
        # A few eager steps are cheaper than tracing one after each change.
        arguments = {"run_eagerly": True, **arguments}
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, activation="relu", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(4, name="head"),
        ]
    )
    return compiled(model, optimizer, **arguments)


def compiled(model, optimizer="sgd", **arguments):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **arguments)
    return model


def fit(model, *callbacks, epochs=3, **arguments):
    return model.fit(
        X,
        Y,
        16,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=list(callbacks),
        **arguments,
    ).history


def kernels(model):
    """Each quantized layer's tensor by path."""
    return {
        path: layer.quantized_kernel()
        for path, layer in walk_layers(model)
        if isinstance(layer, QuantizedKernel)
    }


class Watch(keras.callbacks.Callback):
    """Notes the classes of the layers after each batch."""

    def __init__(self):
        super().__init__()
        self.seen, self.kernels = [], []

    def on_train_batch_end(self, batch, logs=None):
        found = [layer for _, layer in walk_layers(self.model)]
        self.seen.append(
            sum(isinstance(layer, QuantizationAware) for layer in found)
        )


@pytest.mark.parametrize(("bits", "quantizer"), [(2, "mse"), (3, "kmeans")])
def test_kernels_are_trained_rounded_and_end_up_quantized(bits, quantizer):
    model = make_model()
    variable, watch = model.layers[0].kernel, Watch()
    optimizer = model.optimizer
    callback = QuantizationAwareTraining(bits, quantizer, begin_epoch=1)
    history = fit(model, callback, watch, validation_data=(X, Y))
    assert watch.seen == [0] * 2 + [2] * 4
    assert history["bits"] == [32.0, bits, bits]
    assert np.isinf(history["quantization_snr_db"][0])
    assert 3 < history["quantization_snr_db"][-1] < 10 * bits
    assert model.optimizer is optimizer and int(optimizer.iterations) == 6
    assert all(v is not variable for v in model.trainable_variables)
    tensors = kernels(model)
    assert list(tensors) == ["first", "head"]
    assert all(len(np.unique(t.codes)) <= 2**bits for t in tensors.values())
    # The model that was validated last is the one that is stored.
    loss = model.evaluate(X, Y, verbose=0)[0]
    np.testing.assert_allclose(loss, history["val_loss"][-1], rtol=1e-4)
    # The optimizer knows what is left to be trained.
    assert fit(model, epochs=1)["loss"]


def test_steps_are_learned_with_the_kernels_and_momenta_go_on():
    model = make_model("adam")
    fit(model, epochs=1)
    kernel = model.layers[0].kernel
    place = model.optimizer._get_variable_index(kernel)
    momentum = np.asarray(model.optimizer._momentums[place])
    callback = QuantizationAwareTraining(4, freeze=False)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    place = model.optimizer._get_variable_index(kernel)
    assert np.array_equal(momentum, model.optimizer._momentums[place])
    callback.on_train_end()
    before = np.asarray(model.layers[0].kernel)
    fit(model, epochs=2)
    first = model.layers[0]
    assert np.abs(np.asarray(first.kernel_log_step)).max() > 1e-3
    assert not np.array_equal(before, first.kernel)
    model = make_model()
    fit(model, QuantizationAwareTraining(4, learn_scale=False, freeze=False))
    assert len(model.layers[0].trainable_variables) == 2


def test_training_with_rounding_beats_rounding_afterwards():
    model = make_model(keras.optimizers.SGD(0.3))
    fit(model, epochs=10)
    rounded, _ = ks.quantize(model, bits=2, method="round")
    fit(model, QuantizationAwareTraining(2), epochs=6)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert loss(Y, model(X)) < 0.8 * loss(Y, rounded(X))


def test_the_best_weights_are_restored_before_they_are_frozen():
    model, kept = make_model(), []
    stopping = keras.callbacks.EarlyStopping(
        "loss", mode="max", patience=9, restore_best_weights=True
    )
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.append(
            np.asarray(model.layers[0].kernel)
        )
    )
    fit(model, QuantizationAwareTraining(4), stopping, keep)
    # The highest loss is that of the first epoch.
    assert np.array_equal(kernels(model)["first"].dequantize(), kept[0])


def test_begin_step_and_filters(capsys):
    model, watch = make_model(), Watch()
    callback = QuantizationAwareTraining(
        4, begin_step=3, filters="head", verbose=1
    )
    fit(model, callback, watch)
    assert watch.seen == [0] * 2 + [1] * 4
    assert list(kernels(model)) == ["head"]
    assert "head: MeanSquaredErrorQuantizer(bits=4" in capsys.readouterr().out


def test_the_levels_of_a_codebook_harden_by_the_optimizers_steps():
    model = make_model()
    callback = QuantizationAwareTraining(
        2, "kmeans", hardening_steps=4, frequency=2, freeze=False
    )
    seen = []

    class Hardness(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(model.layers[0].kernel_hardness))

    fit(model, callback, Hardness(), epochs=4)
    assert seen == [0, 0.5, 0.5, 1, 1, 1, 1, 1]
    values = np.asarray(model.layers[0].kernel)
    assert len(np.unique(values)) <= 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps_per_execution": 2},
        {"use_ema": True, "gradient_accumulation_steps": 2},
    ],
)
def test_every_way_to_train(arguments):
    if "use_ema" in arguments:
        arguments = {"optimizer": keras.optimizers.SGD(**arguments)}
    model = make_model(**arguments)
    callback = QuantizationAwareTraining(3, "kmeans", begin_epoch=1)
    history = fit(model, callback, epochs=2)
    assert np.isfinite(history["loss"]).all()
    assert len(kernels(model)) == 2


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model()
    finally:
        keras.config.set_dtype_policy("float32")
    history = fit(model, QuantizationAwareTraining(4, begin_epoch=1))
    assert history["loss"][-1] < history["loss"][0]
    assert len(kernels(model)) == 2


@pytest.mark.parametrize("quantizer", ["mse", "kmeans"])
def test_pruned_weights_stay_zero(quantizer):
    model = make_model()
    pruning = ks.callbacks.MagnitudePruning(
        ks.schedules.ConstantSparsity(0.5, begin_step=3)
    )
    fit(model, QuantizationAwareTraining(4, quantizer, begin_epoch=1), pruning)
    for tensor in kernels(model).values():
        values = tensor.dequantize()
        assert np.mean(values == 0) >= 0.5


def test_a_quantized_model_is_tuned_on_its_grids():
    small, _ = ks.quantize(make_model(), bits=2, method="round")
    compiled(small, keras.optimizers.SGD(0.1), run_eagerly=True)
    before = small.evaluate(X, Y, verbose=0)[0]
    callback = QuantizationAwareTraining(8, learn_scale=False)
    scales = {p: t.scale for p, t in kernels(small).items()}
    fit(small, callback, epochs=4)
    for path, tensor in kernels(small).items():
        assert tensor.bits == 2
        assert np.array_equal(tensor.scale, scales[path])
    assert small.evaluate(X, Y, verbose=0)[0] < before


def test_factors_are_rounded_like_other_kernels():
    model = make_model()
    low_rank = ks.callbacks.LowRankFactorization(rank=2, min_saving=0.0)
    fit(model, low_rank, QuantizationAwareTraining(4, begin_epoch=2))
    assert model.layers[0].ranks == (2,)
    assert len(kernels(model)) >= 3


def test_subclassed_nested_and_shared_layers_attention_and_cells(tmp_path):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.embed = layers.Embedding(9, 6)
            self.attention = layers.MultiHeadAttention(2, 3)
            self.shared = layers.Dense(6)
            self.recurrent = layers.Bidirectional(layers.LSTM(3))
            self.nested = keras.Sequential([layers.Dense(4)])

        def call(self, x):
            x = self.embed(x)
            x = self.shared(self.shared(self.attention(x, x)))
            return self.nested(self.recurrent(x))

    keras.utils.set_random_seed(0)
    model = compiled(Model(), run_eagerly=True)
    x = RNG.integers(0, 9, (16, 5))
    y = RNG.integers(0, 4, 16)
    callback = QuantizationAwareTraining(4, freeze=False)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    assert type(model.attention).__name__.startswith("QuantizationAware")
    layer = model.recurrent.forward_layer
    assert type(layer).__name__ == "QuantizationAwareLSTM"
    trained = model(x)
    callback = QuantizationAwareTraining(4)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_end()
    assert type(model.attention).__name__ == "QuantizedMultiHeadAttention"
    assert type(layer).__name__ == "QuantizedLSTM"
    np.testing.assert_allclose(model(x), trained, rtol=1e-4, atol=1e-5)
    assert len([p for p, _ in walk_layers(model) if p]) > 8


def test_what_cannot_be_rounded_is_said(capsys):
    class Own(layers.Dense):
        """A subclass of the user's."""

    model = compiled(
        keras.Sequential(
            [keras.Input((12,)), Own(4, name="own"), layers.Dense(4)]
        ),
        run_eagerly=True,
    )
    callback = QuantizationAwareTraining(verbose=1)
    fit(model, callback, epochs=1)
    assert callback.live.skipped[0][0] == "own"
    assert "own: left float" in capsys.readouterr().out


def test_what_does_not_fit_together_is_warned_of(tmp_path):
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="before ModelCheckpoint"):
        fit(make_model(), saver, QuantizationAwareTraining(), epochs=1)
    stopping = keras.callbacks.EarlyStopping(
        "loss", patience=9, restore_best_weights=True
    )
    with pytest.warns(UserWarning, match="start_from_epoch=1"):
        fit(
            make_model(),
            QuantizationAwareTraining(begin_epoch=1),
            stopping,
            epochs=2,
        )
    with pytest.warns(UserWarning, match="ended before kernels were to be"):
        fit(make_model(), QuantizationAwareTraining(begin_epoch=9), epochs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 9}, "bits"),
        ({"bits": 16}, "bits"),
        ({"quantizer": "ternary", "bits": 8}, "bits"),
        ({"quantizer": "no"}, "quantizer"),
        ({"begin_epoch": -1}, "begin_epoch"),
        ({"frequency": 0}, "frequency"),
        ({"hardening_steps": -1}, "hardening_steps"),
        ({"granularity": "per_channel", "group_size": 3}, "group_size"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(SqueezeError, match=message):
        QuantizationAwareTraining(**arguments)


def test_bad_models_are_left_as_they_were():
    model = make_model()
    with pytest.raises(SqueezeError, match="filters='nothing'"):
        fit(model, QuantizationAwareTraining(filters="nothing"), epochs=1)
    model = make_model()
    model.layers[-1].kernel.assign(np.full((16, 4), np.nan))
    with pytest.raises(SqueezeError, match="head/kernel"):
        fit(model, QuantizationAwareTraining(), epochs=1)
    assert type(model.layers[0]) is layers.Dense

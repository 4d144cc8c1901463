import contextlib

import keras
import numpy as np
import pytest
from keras import layers

from keras_squeeze.callbacks.learning_rate_rewinding import (
    LearningRateRewinding,
    RewoundSchedule,
)
from keras_squeeze.errors import SqueezeError

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = X.sum(axis=1)
STEPS = 6
DECAY = keras.optimizers.schedules.PolynomialDecay(0.2, 20, 0.0)


def make_model(learning_rate=0.1, optimizer=keras.optimizers.SGD, **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(optimizer(learning_rate, **arguments), "mse")
    # Otherwise Keras traces the first step twice.
    model.optimizer.build(model.trainable_variables)
    return model


class Rates(keras.callbacks.Callback):
    """Notes the learning rate of every batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        rate = self.model.optimizer.learning_rate
        self.seen.append(float(keras.ops.convert_to_numpy(rate)))


def fit(model, *callbacks, epochs=2, batch_size=4, **arguments):
    rates = Rates()
    model.fit(
        X,
        Y,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks, rates],
        **arguments,
    )
    return rates.seen


def test_a_rewound_schedule_starts_again_at_every_point():
    rewound = RewoundSchedule(DECAY, to=2, at=[5, 9])
    expected = [0, 1, 2, 3, 4, 2, 3, 4, 5, 2, 3, 4]
    for step, as_at in enumerate(expected):
        assert float(rewound(step)) == float(DECAY(as_at))


def test_a_rewound_schedule_is_saved_with_the_model(tmp_path):
    rewound = RewoundSchedule(DECAY, to=2, at=[5, 9])
    config = keras.optimizers.schedules.serialize(rewound)
    again = keras.optimizers.schedules.deserialize(config)
    assert float(again(10)) == float(DECAY(3))
    model = make_model(rewound)
    fit(model, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert fit(loaded, epochs=1) == fit(model, epochs=1)


def test_the_callback_rewinds_a_schedule_inside_the_step():
    whole, rewound = make_model(DECAY), make_model(RewoundSchedule(DECAY, 2, 7))
    seen = fit(whole, LearningRateRewinding(to=2, at=7))
    assert seen == pytest.approx(
        [float(DECAY(n)) for n in [*range(7), *range(2, 7)]]
    )
    fit(rewound)
    for one, other in zip(
        whole.get_weights(), rewound.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_the_optimizer_keeps_its_own_schedule():
    model = make_model(DECAY)
    config = model.optimizer.get_config()

    class Configs(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            assert self.model.optimizer.get_config() == config

    fit(model, LearningRateRewinding(to=2, at=7), Configs())
    assert float(model.optimizer.learning_rate) == float(DECAY(12))
    assert fit(model, epochs=1) == [float(DECAY(12 + n)) for n in range(6)]


def test_an_interrupted_rewinding_is_replaced():
    model = make_model(DECAY)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        fit(model, LearningRateRewinding(to=0, at=1), Stop())
    seen = fit(model, LearningRateRewinding(to=0, at=50), epochs=1)
    assert seen == [float(DECAY(1 + n)) for n in range(6)]


def test_gradient_accumulation_counts_steps_for_the_callback():
    model = make_model(DECAY, gradient_accumulation_steps=2)
    seen = fit(model, LearningRateRewinding(to=1, at=4))
    # Keras counts batches for the schedule.
    expected = [*range(8), *range(2, 6)]
    assert seen == pytest.approx([float(DECAY(n)) for n in expected])


def test_loss_scaling_is_seen_through():
    model = make_model(DECAY)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(DECAY))
    model.compile(optimizer, "mse")
    seen = fit(
        model, LearningRateRewinding(to=0, at=6, unit="epochs"), epochs=1
    )
    assert seen[0] == float(DECAY(0))
    assert "_get_current_learning_rate" not in vars(optimizer.inner_optimizer)


def halve(epoch, rate):
    return 0.5**epoch


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_rates_that_callbacks_set_are_replayed(steps_per_execution):
    model = make_model()
    model.steps_per_execution = steps_per_execution
    scheduler = keras.callbacks.LearningRateScheduler(halve)
    rewinding = LearningRateRewinding(to=1, at=3, unit="epochs")
    seen = fit(model, scheduler, rewinding, epochs=6)
    rates = seen[:: STEPS // steps_per_execution]
    assert rates == [1, 0.5, 0.25, 0.5, 0.25, 0.25]


def test_a_constant_rate_stays():
    assert fit(make_model(), LearningRateRewinding(to=1, at=3)) == [
        pytest.approx(0.1)
    ] * (2 * STEPS)


class Crash(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def test_the_record_survives_a_crash(tmp_path):
    def run(*more):
        callbacks = [
            keras.callbacks.LearningRateScheduler(halve),
            LearningRateRewinding(to=0, at=2, unit="epochs"),
            keras.callbacks.BackupAndRestore(tmp_path),
        ]
        return fit(make_model(), *callbacks, *more, epochs=4)

    with contextlib.suppress(KeyboardInterrupt):
        run(Crash(3))
    assert run() == [0.5] * STEPS


def test_a_record_goes_on_in_a_further_fit():
    model, rewinding = make_model(), LearningRateRewinding(to=0, at=STEPS)
    scheduler = keras.callbacks.LearningRateScheduler(halve)
    assert fit(model, scheduler, rewinding, epochs=1) == [1] * STEPS
    model.optimizer.learning_rate = 0.3
    assert fit(model, rewinding, epochs=1) == [1] * STEPS


def test_a_training_that_begins_too_late_has_nothing_to_replay():
    model = make_model()
    fit(model)
    with pytest.raises(SqueezeError, match=r"passes step 1.*no record$"):
        fit(model, LearningRateRewinding(to=1, at=3))


def test_epochs_of_unknown_length_are_refused():
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    dataset = dataset.filter(lambda x, y: True)
    rewinding = LearningRateRewinding(to=1, at=2, unit="epochs")
    with pytest.raises(SqueezeError, match=r"steps_per_epoch.*steps=None$"):
        make_model().fit(dataset, callbacks=[rewinding], verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": -1}, r"at least 0.*Received: to=-1, at=5$"),
        ({"to": 5}, r"greater than `to`.*Received: to=5, at=5$"),
        ({"at": [5, 4]}, r"grow.*at=\[5, 4\]$"),
        ({"at": []}, r"at=\[\]$"),
        ({"at": 2.5}, r"integers.*at=2\.5$"),
        ({"unit": "batches"}, r"'steps', 'epochs'.*Received: 'batches'$"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(SqueezeError, match=message):
        LearningRateRewinding(**{"to": 1, "at": 5, **arguments})


def test_a_rate_that_is_no_schedule_is_refused():
    with pytest.raises(SqueezeError, match=r"LearningRateSchedule.*0\.1$"):
        RewoundSchedule(0.1, 0, 1)
    model = make_model(lambda: 0.1)
    with pytest.raises(SqueezeError, match=r"learning_rate=<function"):
        fit(model, LearningRateRewinding(to=0, at=1))

"""The demo's data, network and training: handwritten digits, a small convnet.

The data are the 1,797 real digits of 8x8 pixels that scikit-learn carries, so
that nothing is downloaded. Benchmarks use the same recipe.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError

if TYPE_CHECKING:
    from keras_squeeze.callbacks import MagnitudePruning

PARAMETERS = 320_714
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
#: Passes over the shifted digits, first dense, then with pruning.
EPOCHS = 3
PRUNING_EPOCHS = 6
#: Final sparsity of the kernels a regex finds. The first and the last layer
#: hold 1 % of the weights and stay dense.
SPARSITIES = {"conv_[23]/": 0.8, "hidden/": 0.95}
#: The share of the pruning steps after which the sparsity no longer grows.
RAMP = 0.6
FREQUENCY = 25
BITS = 4
_ENLARGEMENT = 2
_SHIFTS = (-1, 0, 1)


@dataclasses.dataclass(frozen=True)
class DigitsData:
    """Digits to train on and to test with.

    Args:
        x_train: Array of shape `(samples, 16, 16, 1)`, float32 in `[0, 1]`.
        y_train: Array of shape `(samples,)`, integers from 0 to 9.
        x_test: As `x_train`, not shifted.
        y_test: As `y_train`.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


def load_digits_data(shifted: bool = True) -> DigitsData:
    """Loads 1,347 digits to train on and 450 others to test with.

    Args:
        shifted: Boolean. Whether each digit to train on is there nine times,
            shifted by -1, 0 and 1 pixels in both directions. Defaults to
            `True`.

    Returns:
        A `DigitsData`.

    Raises:
        SqueezeError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise SqueezeError(
            "Expected scikit-learn, which carries the digits: `pip install "
            f"'keras_squeeze[demo]'`. Received: {error}"
        ) from error
    digits = load_digits()
    images = digits.images.astype(np.float32)[..., np.newaxis] / 16
    images = images.repeat(_ENLARGEMENT, axis=1).repeat(_ENLARGEMENT, axis=2)
    x_train, x_test, y_train, y_test = train_test_split(
        images, digits.target, test_size=450, random_state=0
    )
    if shifted:
        x_train = _shift(x_train)
        y_train = np.tile(y_train, len(_SHIFTS) ** 2)
    return DigitsData(x_train, y_train, x_test, y_test)


def _shift(images: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = images.shape[1:3]
    copies = [
        padded[:, 1 + down :, 1 + right :][:, :height, :width]
        for down in _SHIFTS
        for right in _SHIFTS
    ]
    return np.concatenate(copies)


def build_digits_model(seed: int = 0) -> Any:
    """Makes the convnet of 320,714 parameters.

    Args:
        seed: Integer. Seeds all generators of Python, NumPy and Keras.
            Defaults to `0`.

    Returns:
        A `keras.Model` with inputs of shape `(batch, 16, 16, 1)`.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    convolution = functools.partial(
        layers.Conv2D, kernel_size=3, padding="same", activation="relu"
    )
    return keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            convolution(32, name="conv_1"),
            layers.MaxPooling2D(),
            convolution(64, name="conv_2"),
            layers.MaxPooling2D(),
            convolution(64, name="conv_3"),
            layers.Flatten(),
            layers.Dense(256, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax", name="head"),
        ],
        name="digits",
    )


def train(
    model: Any,
    data: DigitsData,
    callbacks: Sequence[Any] = (),
    epochs: int = EPOCHS,
    verbose: Any = 0,
) -> Any:
    """Compiles a model anew and trains it.

    Args:
        model: The `keras.Model` to train.
        data: The `DigitsData`.
        callbacks: Sequence of `keras.callbacks.Callback`.
        epochs: Integer. Defaults to `EPOCHS`.
        verbose: As in `keras.Model.fit`. Defaults to `0`.

    Returns:
        The `keras.callbacks.History`.
    """
    import keras

    rate = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE, epochs * steps_per_epoch(data)
    )
    model.compile(
        keras.optimizers.Adam(rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model.fit(
        data.x_train,
        data.y_train,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        callbacks=list(callbacks),
        verbose=verbose,
    )


def pruning_callbacks(
    data: DigitsData, epochs: int = PRUNING_EPOCHS
) -> list[MagnitudePruning]:
    """The callbacks that prune over so many epochs.

    Args:
        data: The `DigitsData` to train on.
        epochs: Integer. Defaults to `PRUNING_EPOCHS`.

    Returns:
        List of `MagnitudePruning`, one for each entry of `SPARSITIES`.
    """
    from keras_squeeze.callbacks import MagnitudePruning
    from keras_squeeze.schedules import PolynomialDecay

    last = round(RAMP * epochs * steps_per_epoch(data))
    return [
        MagnitudePruning(
            PolynomialDecay(0.0, sparsity, begin_step=0, end_step=last),
            filters=filters,
            frequency=FREQUENCY,
        )
        for filters, sparsity in SPARSITIES.items()
    ]


def steps_per_epoch(data: DigitsData) -> int:
    """How many batches there are to train on."""
    return math.ceil(len(data.x_train) / BATCH_SIZE)


def accuracy(model: Any, data: DigitsData) -> float:
    """The share of test digits that a model names rightly."""
    scores = model.predict(data.x_test, batch_size=512, verbose=0)
    return float(np.mean(np.argmax(scores, axis=-1) == data.y_test))

"""Channels pruned while training, then really removed: a smaller network.

Run: python examples/prune_and_shrink.py [OUT.h5]
Needs: pip install 'keras_squeeze[demo]' (for scikit-learn's digits)
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_squeeze as ks

path = sys.argv[1] if len(sys.argv) > 1 else "shrunk.squeeze.h5"
keras.utils.set_random_seed(0)

images, labels = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(
    images.reshape(-1, 8, 8, 1) / 16, labels, test_size=0.25, random_state=0
)

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(64, 3, activation="relu", name="features"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu", name="hidden"),
        keras.layers.Dense(10),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, metrics=["accuracy"])
ks.export(model, path)
dense_bytes = os.path.getsize(path)

# Three in four channels of two layers go while the second to the fifth of
# eight epochs run.
ramp = ks.schedules.PolynomialDecay(0.0, 0.75, 1, 5, unit="epochs")
pruning = ks.callbacks.Pruning(
    ramp, pattern="channel", filters="features|hidden", frequency=20
)
model.fit(x_train, y_train, 32, epochs=8, verbose=2, callbacks=[pruning])

smaller, report = ks.shrink(model)
print(report)
smaller.fit(x_train, y_train, 32, epochs=2, verbose=2)
ks.export(smaller, path)

served = ks.load_model(path)
served.compile(loss=loss, metrics=["accuracy"])
accuracy = served.evaluate(x_test, y_test, verbose=0)[1]
print(f"{model.count_params():,} -> {served.count_params():,} parameters")
print(f"{dense_bytes:,} -> {os.path.getsize(path):,} bytes")
print(f"accuracy of the reloaded file: {accuracy:.4f}")

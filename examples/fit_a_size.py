"""A trained model in as many bytes as you have, without training it again.

Run: python examples/fit_a_size.py [OUT.h5]
Needs: pip install 'keras_squeeze[demo]' (for scikit-learn's digits)
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from sklearn.datasets import load_digits

import keras_squeeze as ks

path = sys.argv[1] if len(sys.argv) > 1 else "digits.squeeze.h5"
keras.utils.set_random_seed(0)

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
train, test = (images[:1344], labels[:1344]), (images[1344:], labels[1344:])

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(10),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, metrics=["accuracy"])
model.fit(*train, 32, epochs=8, verbose=2)

# Codes are chosen for the least error of each layer's outputs on these images.
calibration = train[0][:512]
for max_bytes in (40_000, 25_000, 18_000):
    report = ks.export(
        model,
        path,
        max_bytes=max_bytes,
        calibration=calibration,
        validate=test,
    )
    totals = report.totals
    print(
        f"{totals['file_bytes']:,} bytes of {max_bytes:,}: accuracy "
        f"{totals['accuracy_before']:.4f} -> {totals['accuracy_after']:.4f}"
    )

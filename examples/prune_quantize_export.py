"""The whole path: prune while training, quantize, export, reload, predict.

Run: python examples/prune_quantize_export.py [OUT.h5]
Needs: pip install 'keras_squeeze[demo]' (for scikit-learn's digits)
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_squeeze as ks

path = sys.argv[1] if len(sys.argv) > 1 else "digits.squeeze.h5"
keras.utils.set_random_seed(0)

images, labels = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(
    images.reshape(-1, 8, 8, 1).astype("float32") / 16,
    labels,
    test_size=0.25,
    random_state=0,
    stratify=labels,
)

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

# 1,344 images in batches of 32 are 42 steps an epoch: 5 epochs dense, 13 with
# rising sparsity, and the last 6 let the accuracy recover.
sparsity = ks.schedules.PolynomialDecay(0.0, 0.8, begin_step=210, end_step=756)
pruning = ks.callbacks.MagnitudePruning(sparsity, frequency=20)
x_train, y_train = x_train[:1344], y_train[:1344]
model.fit(x_train, y_train, 32, epochs=24, verbose=2, callbacks=[pruning])

small, report = ks.quantize(model, bits=5)
print(report)
small.compile("adam", loss, metrics=["accuracy"])
print(ks.export(small, path, validate=(x_test, y_test)))

served = ks.load_model(path)
accuracy = np.mean(served.predict(x_test, verbose=0).argmax(-1) == y_test)
size, plain = os.path.getsize(path), 4 * model.count_params()
print(f"{path}: {size:,} bytes, {plain / size:.1f} times smaller than float32")
print(f"accuracy of the reloaded file: {accuracy:.4f}")

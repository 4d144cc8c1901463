"""Kernels become products of smaller ones while the network trains.

Run: python examples/low_rank_fit.py [OUT.h5 [PLOT.svg]]
Needs: pip install 'keras_squeeze[demo,plot]' (scikit-learn's digits, plots)
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_squeeze as ks

path = sys.argv[1] if len(sys.argv) > 1 else "low_rank.squeeze.h5"
plot = sys.argv[2] if len(sys.argv) > 2 else "low_rank.svg"
keras.utils.set_random_seed(0)

images, labels = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(
    images / 16, labels, test_size=0.25, random_state=0
)

model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(1024, activation="relu", name="first"),
        keras.layers.Dense(1024, activation="relu", name="wide_1"),
        keras.layers.Dense(1024, activation="relu", name="wide_2"),
        keras.layers.Dense(10),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, metrics=["accuracy"])


times = []
clock = keras.callbacks.LambdaCallback(
    on_train_batch_begin=lambda batch, logs: times.append(time.perf_counter()),
    on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()),
)

# At the beginning of the third epoch the kernels are replaced by factors of
# rank 128; in the sixth and seventh their ranks fall to a half. The first layer
# and that of the ten classes are small and stay as they are.
fall = ks.schedules.PolynomialDecay(0.0, 0.5, 4, 6, power=1.0, unit="epochs")
low_rank = ks.callbacks.LowRankFactorization(
    rank=0.125, begin_epoch=2, schedule=fall, filters="wide", verbose=1
)
history = model.fit(
    x_train,
    y_train,
    32,
    epochs=10,
    validation_data=(x_test, y_test),
    verbose=2,
    callbacks=[low_rank, clock],
).history

# The median step of each epoch, in milliseconds.
spans = np.diff(times)[::2].reshape(len(history["loss"]), -1)
history["step_ms"] = list(1000 * np.median(spans, axis=1))

report = ks.export(model, path)
print(report)
served = ks.load_model(path)
served.compile(loss=loss, metrics=["accuracy"])
accuracy = served.evaluate(x_test, y_test, verbose=0)[1]
print(
    f"{history['parameters'][0]:,.0f} -> {served.count_params():,} parameters"
)
print(f"{history['step_ms'][0]:.2f} -> {history['step_ms'][-1]:.2f} ms a step")
print(f"{os.path.getsize(path):,} bytes")
print(f"accuracy of the reloaded file: {accuracy:.4f}")

figure = Figure(figsize=(7, 6), layout="constrained")
axes = figure.subplots(3, sharex=True)
for axis, name in zip(
    axes, ("val_accuracy", "parameters", "step_ms"), strict=True
):
    axis.plot(history[name], marker="o")
    axis.set_ylabel(name)
axes[-1].set_xlabel("epoch")
figure.savefig(plot)

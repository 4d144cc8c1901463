"""Kernels become products of smaller ones while the network trains.

Run: python examples/low_rank_fit.py [OUT.h5 PLOT.svg]
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

path, plot = sys.argv[1:] or ("low_rank.h5", "low_rank.svg")
keras.utils.set_random_seed(0)
images, labels = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split(images / 16, labels, random_state=0)

dense = keras.layers.Dense
wide = [dense(1024, activation="relu", name=f"wide_{i}") for i in (1, 2)]
first = dense(1024, activation="relu")
model = keras.Sequential([keras.Input((64,)), first, *wide, dense(10)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, metrics=["accuracy"])

# At the beginning of the third epoch the wide layers get factors of rank 128;
# in the sixth and seventh their ranks fall to a half.
fall = ks.schedules.PolynomialDecay(0.0, 0.5, 4, 6, power=1.0, unit="epochs")
low_rank = ks.callbacks.LowRankFactorization(
    rank=0.125, begin_epoch=2, schedule=fall, filters="wide", verbose=1
)
times = []
clock = keras.callbacks.LambdaCallback(
    on_train_batch_end=lambda batch, logs: times.append(time.perf_counter())
)
test, callbacks = (x_test, y_test), [low_rank, clock]
run = model.fit(x, y, 32, 10, 2, callbacks, validation_data=test).history
steps = np.diff(np.reshape(times, (10, -1)))
run["step_ms"] = 1000 * np.median(steps, axis=1)

ks.export(model, path)
served = ks.load_model(path)
served.compile(loss=loss, metrics=["accuracy"])
accuracy = served.evaluate(*test, verbose=0)[1]
print(f"{run['parameters'][0]:,.0f} -> {served.count_params():,} parameters")
print(f"{run['step_ms'][0]:.2f} -> {run['step_ms'][-1]:.2f} ms a step")
print(f"accuracy of the reloaded file: {accuracy:.4f}")
figure = Figure(figsize=(7, 6), layout="constrained")
shown = ["val_accuracy", "parameters", "step_ms"]
for axes, name in zip(figure.subplots(3), shown, strict=True):
    axes.plot(run[name], marker="o")
    axes.set(xlabel="epoch", ylabel=name)
figure.savefig(plot)

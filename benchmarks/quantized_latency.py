"""Latency of quantized layers beside float, Keras' int8 and LiteRT.

    python benchmarks/quantized_latency.py [MODEL ...] [--rounds 20]

MODEL is one of `mlp`, `cnn`, `gru`, `transformer`; all by default.

Each model is timed at batch 1 and 64 as float32; with quantized layers of 8, 4
and 2 bits, affine and by codebook; read back with `dequantize=True`; with the
int8 of `keras.Model.quantize` where that knows most of the layers; and as a
LiteRT file with dynamic-range int8 weights. Keras models run as a `tf.function`
plain and compiled by XLA.

All variants take turns in one process, on one thread, in CPU time; a figure is
the median over the rounds of the ratio to the plain float32 model of the same
round. Above 1 is slower. `MB` is what the variables or the file take.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_squeeze as ks
from keras_squeeze.surgery.dequantization import dequantize_model

BATCHES = (1, 64)
TURN_SECONDS = 0.02
QUANTIZED = {
    "8 bits": {"bits": 8},
    "4 bits": {"bits": 4},
    "2 bits": {"bits": 2},
    "4 bits affine": {"bits": 4, "quantizer": "affine"},
    "4 bits codebook": {"bits": 4, "quantizer": "nf4"},
    "4 bits groups of 64": {
        "bits": 4,
        "granularity": "per_group",
        "group_size": 64,
    },
}


def build_mlp():
    """Three wide layers."""
    return keras.Sequential(
        [
            keras.Input((1024,)),
            layers.Dense(2048, activation="relu"),
            layers.Dense(2048, activation="relu"),
            layers.Dense(1024),
        ]
    )


def build_cnn():
    """Four convolutions on small images."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, 2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(128, 3, 2, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


def build_gru():
    """One recurrent layer over 32 steps."""
    return keras.Sequential(
        [keras.Input((32, 128)), layers.GRU(256), layers.Dense(10)]
    )


def build_transformer():
    """One block of attention and two Dense layers on 64 tokens."""
    inputs = keras.Input((64, 256))
    attended = layers.MultiHeadAttention(4, 64)(inputs, inputs)
    x = layers.LayerNormalization()(inputs + attended)
    hidden = layers.Dense(1024, activation="relu")(x)
    outputs = layers.LayerNormalization()(x + layers.Dense(256)(hidden))
    return keras.Model(inputs, outputs)


MODELS = {
    "mlp": build_mlp,
    "cnn": build_cnn,
    "gru": build_gru,
    "transformer": build_transformer,
}
#: Those whose weights Keras' own int8 covers nearly all of.
KERAS_INT8 = ("mlp", "transformer")


def traced(model, jit_compile):
    """A maker of timed calls: the model as a `tf.function`."""

    def prepare(x):
        function = tf.function(
            lambda batch: model(batch, training=False), jit_compile=jit_compile
        ).get_concrete_function(tf.TensorSpec(x.shape, x.dtype))
        batch = tf.constant(x)
        return lambda: function(batch)

    return prepare


def lite(contents):
    """A maker of timed calls: LiteRT files by batch in their interpreter."""

    def prepare(x):
        interpreter = tf.lite.Interpreter(
            model_content=contents[len(x)], num_threads=1
        )
        interpreter.allocate_tensors()
        index = interpreter.get_input_details()[0]["index"]

        def call():
            interpreter.set_tensor(index, x)
            interpreter.invoke()

        return call

    return prepare


def lite_content(model, batch, quantize):
    """The LiteRT file of a model for one size of batch."""
    # Recurrent layers are converted for a batch of known size only.
    inputs = keras.Input(batch_shape=(batch, *model.input_shape[1:]))
    fixed = keras.models.clone_model(model, input_tensors=inputs)
    fixed.set_weights(model.get_weights())
    converter = tf.lite.TFLiteConverter.from_keras_model(fixed)
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


def variables_megabytes(model):
    """What the variables of a model take in memory."""
    sizes = [
        np.prod(v.shape) * tf.as_dtype(v.dtype).size for v in model.variables
    ]
    return float(np.sum(sizes)) / 1e6


def keras_variants(model, name):
    """Models by name: float, ours, read back dequantized, Keras' int8."""
    yield "float32", model
    for label, arguments in QUANTIZED.items():
        quantizer = {"quantizer": "absmax", **arguments}
        yield label, ks.quantize(model, **quantizer)[0]
    small, _ = ks.quantize(model, bits=8, quantizer="absmax")
    dequantize_model(small)
    yield "8 bits, dequantize=True", small
    if name in KERAS_INT8:
        theirs = keras.models.clone_model(model)
        theirs.quantize("int8")
        yield "Keras int8", theirs


def variants(model, name):
    """Dictionary of name to megabytes and a maker of timed calls."""
    found = {}
    for label, made in keras_variants(model, name):
        megabytes = variables_megabytes(made)
        found[label] = megabytes, traced(made, jit_compile=False)
        found[f"{label}, XLA"] = megabytes, traced(made, jit_compile=True)
    for label, quantize in {"LiteRT float32": 0, "LiteRT int8": 1}.items():
        contents = {b: lite_content(model, b, quantize) for b in BATCHES}
        found[label] = len(contents[1]) / 1e6, lite(contents)
    return found


def ratios(calls, rounds):
    """Median ratio of each call's CPU time to the first one's."""
    counts = {name: count_for(call) for name, call in calls.items()}
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(counts[name]):
                call()
            times[name].append((time.process_time() - start) / counts[name])
    base = times["float32"]
    medians = {
        name: statistics.median(
            [a / b for a, b in zip(taken, base, strict=True)]
        )
        for name, taken in times.items()
    }
    return medians, statistics.median(base)


def count_for(call):
    """How many calls make a turn that the clock can resolve."""
    call()
    start = time.process_time()
    call()
    taken = max(time.process_time() - start, 1e-5)
    return max(1, round(TURN_SECONDS / taken))


def report(name, rounds):
    """Measures one model and prints its table."""
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    found = variants(model, name)
    columns = {}
    for batch in BATCHES:
        shape = (batch, *model.input_shape[1:])
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        calls = {label: made(x) for label, (_, made) in found.items()}
        columns[batch], milliseconds = ratios(calls, rounds)
        print(f"{name}, batch {batch}: float32 {1e3 * milliseconds:.2f} ms")
    print(f"\n| {name} | MB | batch 1 | batch 64 |\n|---|---|---|---|")
    for label, (megabytes, _) in found.items():
        cells = [f"{columns[batch][label]:.2f}" for batch in BATCHES]
        print(f"| {label} | {megabytes:.2f} | {' | '.join(cells)} |")
    print(flush=True)


def main():
    """Prints a table a model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    unknown = set(arguments.models) - set(MODELS)
    if unknown:
        parser.error(f"expected models among {list(MODELS)}: {unknown}")
    # One thread: its CPU time is its latency, whoever shares the machine.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, CPU")
    for name in arguments.models or MODELS:
        report(name, arguments.rounds)


if __name__ == "__main__":
    main()

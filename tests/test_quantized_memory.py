"""Quantized kernels take less memory: in variables, and in the process."""

import json
import math
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.layers import QuantizedDense, quantize_layer
from tests import models
from tests.layer_cases import CASES, outputs

L = keras.layers
STORED_BITS = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 8: 8}


def nbytes(variables):
    return sum(
        math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in variables
    )


def parts(layer, end):
    """Variables of a layer whose names end that way."""
    return [v for v in layer.variables if v.name.endswith(end)]


def built(stock, name="layer"):
    layer = stock(name=name, **CASES[stock][0])
    outputs(layer, stock)
    return layer


@pytest.mark.parametrize("bits", STORED_BITS)
def test_bytes_of_every_width(bits):
    layer = QuantizedDense(24, bits=bits)
    layer.build((None, 64))
    (codes,), (scale,) = parts(layer, "_codes"), parts(layer, "_scale")
    assert nbytes([codes]) == 24 * 64 * STORED_BITS[bits] // 8
    assert nbytes([scale]) == 24 * 4
    assert nbytes(layer.variables) == nbytes([codes, scale, layer.bias])


@pytest.mark.parametrize("granularity", ["per_tensor", "per_group"])
def test_bytes_of_scales(granularity):
    size = 16 if granularity == "per_group" else None
    layer = QuantizedDense(24, granularity=granularity, group_size=size)
    layer.build((None, 64))
    scales = 24 * 64 // size if size else 1
    assert nbytes(parts(layer, "_scale")) == 4 * scales


@pytest.mark.parametrize("stock", CASES, ids=lambda kind: kind.__name__)
def test_four_bits_are_half_a_byte_a_weight_in_every_layer(stock):
    layer = built(stock)
    weights = [v for v in layer.weights if "bias" not in v.name]
    sizes = [math.prod(v.shape) for v in weights]
    kept = nbytes(layer.variables) - nbytes(weights)
    quantize_layer(layer, bits=4, granularity="per_tensor")
    codes, scales = parts(layer, "_codes"), parts(layer, "_scale")
    assert nbytes(codes) == sum(math.ceil(size / 2) for size in sizes)
    assert nbytes(scales) == 4 * len(sizes)
    assert nbytes(layer.variables) == nbytes([*codes, *scales]) + kept


@pytest.mark.parametrize("kind", ["nested", "subclassed"])
def test_a_model_holds_no_float_kernel(kind):
    model, _ = models.make(kind)
    small, report = ks.quantize(model, bits=4)
    kernels = [v for v in model.variables if v.name == "kernel"]
    rest = nbytes(model.variables) - nbytes(kernels)
    assert report.totals["bytes_before"] == nbytes(kernels)
    assert report.totals["bytes_after"] == nbytes(small.variables) - rest


# One process reads both files, the smaller first: what it gives back to the
# allocator can only make the float model look smaller than it is.
_READER = """
import json, re, sys
import keras, numpy as np
import keras_squeeze.layers

def resident():
    status = open("/proc/self/status").read()
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", status)[1]) * 1024

def growth(path):
    before = resident()
    model = keras.models.load_model(path, compile=False)
    model.predict(np.ones((1, model.input_shape[-1])), verbose=0)
    kept.append(model)
    return resident() - before

kept = []
for path in sys.argv[1:3]:
    growth(path)
print(json.dumps([growth(path) for path in sys.argv[3:]]))
"""


def chain(folder, name, width, count, **arguments):
    kind = QuantizedDense if arguments else L.Dense
    layers = [kind(width, use_bias=False, **arguments) for _ in range(count)]
    model = keras.Sequential([keras.Input((width,)), *layers])
    model.save(folder / f"{name}.keras")
    return str(folder / f"{name}.keras")


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists("/proc/self/status"),
    reason="reads the memory of a process as Linux shows it",
)
def test_a_process_grows_less(tmp_path):
    files = [
        chain(tmp_path, "small_quantized", 8, 2, bits=4),
        chain(tmp_path, "small_float", 8, 2),
        chain(tmp_path, "quantized", 1024, 24, bits=4),
        chain(tmp_path, "float", 1024, 24),
    ]
    run = subprocess.run(
        [sys.executable, "-c", _READER, *files],
        capture_output=True,
        text=True,
        check=True,
    )
    quantized, floats = json.loads(run.stdout.splitlines()[-1])
    assert floats > 0.8 * 24 * 2**20 * 4
    # Twelve megabytes of codes, and one kernel at a time in float.
    assert quantized < 0.5 * floats

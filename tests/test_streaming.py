"""Memory holds the model, one tensor and what coding it needs."""

import os
import subprocess
import sys
import textwrap

import pytest

PEAK = textwrap.dedent(
    """
    import os, sys

    def status(field):
        with open("/proc/self/status") as lines:
            found = [line for line in lines if line.startswith(field)]
        return int(found[0].split()[1]) / 1024

    def over(task):
        "MiB that a task needs at its peak beyond what is there before."
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = status("VmRSS")
        task()
        return status("VmHWM") - before
    """
)

RAW = textwrap.dedent(
    """
    import numpy as np
    from keras_squeeze import artifact
    from keras_squeeze.artifact import TensorInput
    from keras_squeeze.artifact.coding import DeferredTensor
    from keras_squeeze.codecs import profiles

    # Stored as they are: what is measured is not what codecs need.
    profiles.fast_codecs = lambda *args: []
    count, mib = int(sys.argv[2]), int(sys.argv[3])

    def make(number):
        noise = np.random.default_rng(number).bytes(mib << 20)
        values = np.frombuffer(noise, "uint8")
        return TensorInput.from_values(f"t{number}", values)

    def write(count, path):
        items = [DeferredTensor(f"t{i}", lambda i=i: make(i))
                 for i in range(count)]
        key = b"k" * 32 if "encrypted" in sys.argv else None
        artifact.write(path, items, {}, keras_version="3", profile="fast",
                       encryption_key=key).close()

    def read(path):
        key = b"k" * 32 if "encrypted" in sys.argv else None
        access = artifact.access.Access(key=key)
        with artifact.read(path, access=access) as opened:
            for record, array in opened.iterate():
                assert array.nbytes == mib << 20
                del array

    write(1, sys.argv[1] + ".warm.h5")
    read(sys.argv[1] + ".warm.h5")
    print(over(lambda: write(count, sys.argv[1])))
    print(over(lambda: read(sys.argv[1])))
    """
)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc"
)


def run(code, *arguments):
    child = subprocess.run(
        [sys.executable, "-c", PEAK + code, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    return [float(line) for line in child.stdout.splitlines()]


def bound(largest_mib):
    return 4 * largest_mib + 64


@pytest.mark.parametrize("encrypted", [False, True])
def test_files_larger_than_memory_may_be(tmp_path, encrypted):
    if encrypted:
        pytest.importorskip("cryptography")
    count, mib = 16, 8
    options = ["encrypted"] if encrypted else []
    write, read = run(RAW, tmp_path / "a.h5", count, mib, *options)
    assert max(write, read) < bound(mib) < count * mib


@pytest.mark.slow
@pytest.mark.skipif(
    "KERAS_SQUEEZE_ROUNDS" not in os.environ,
    reason="takes 4 GiB of disk; the test above does the same with less",
)
def test_a_file_of_2_gib(tmp_path):
    write, read = run(RAW, tmp_path / "a.h5", 20, 100)
    assert max(write, read) < bound(100)


WEIGHTS = textwrap.dedent(
    """
    import h5py
    import numpy as np
    from keras_squeeze.bridges.exporting import export_file
    from keras_squeeze.codecs import profiles

    profiles.fast_codecs = lambda *args: []
    rng = np.random.default_rng(0)

    def make(path, count):
        with h5py.File(path, "w") as file:
            for number in range(count):
                group = file.create_group(f"layers/dense_{number}/vars")
                group["0"] = np.frombuffer(rng.bytes(8 << 20), "float32")

    make(sys.argv[1] + ".warm.weights.h5", 1)
    make(sys.argv[1] + ".weights.h5", 16)
    export_file(sys.argv[1] + ".warm.weights.h5", sys.argv[1] + ".warm.h5")
    print(over(lambda: export_file(
        sys.argv[1] + ".weights.h5", sys.argv[1] + ".h5", profile="fast")))
    assert not {"keras", "tensorflow"} & set(sys.modules)
    """
)


def test_weights_files_larger_than_memory_may_be(tmp_path):
    [peak] = run(WEIGHTS, tmp_path / "a")
    assert peak < bound(8) < 16 * 8


MODEL = textwrap.dedent(
    """
    import keras
    import keras_squeeze as ks

    def build(count):
        layers = [keras.layers.Dense(1448, kernel_initializer="zeros",
                                     use_bias=False) for _ in range(count)]
        return keras.Sequential([keras.Input((1448,)), *layers])

    ks.export(build(1), sys.argv[1], bits=8)
    ks.load_model(sys.argv[1])
    model = build(24)
    print(over(lambda: ks.export(model, sys.argv[1], bits=8)))
    own = over(lambda: build(24))
    print(over(lambda: ks.load_model(sys.argv[1])) - own)
    print(over(lambda: ks.load_weights(model, sys.argv[1])))
    """
)


@pytest.mark.slow
@pytest.mark.skipif(
    "KERAS_SQUEEZE_ROUNDS" not in os.environ,
    reason="half a minute; the tests above do the same without a model",
)
def test_models_larger_than_memory_may_be_twice(tmp_path):
    """Kernels of 8 MiB, whose codes are made and decoded one at a time."""
    for peak in run(MODEL, tmp_path / "a.h5"):
        assert peak < bound(8) < 24 * 8

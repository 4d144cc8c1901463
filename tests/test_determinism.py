"""The same tensors give the same file, whatever computes and where."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_squeeze import native
from keras_squeeze.codecs import class_rans_family, logarithms
from keras_squeeze.codecs.class_rans_estimates import coarse_lengths
from keras_squeeze.codecs.class_rans_table import CODE_LENGTHS

ROOT = Path(__file__).resolve().parent.parent
# What NumPy may do without: features that are not there are ignored.
LATER_FEATURES = "AVX512F AVX512CD AVX512_SKX AVX512_ICL AVX512_SPR"
ENVIRONMENTS = {
    "old processor": {
        "OPENBLAS_CORETYPE": "Prescott",
        "OPENBLAS_NUM_THREADS": "2",
        "NPY_DISABLE_CPU_FEATURES": f"AVX2 FMA3 {LATER_FEATURES}",
        "PYTHONHASHSEED": "1",
        "TZ": "Asia/Kathmandu",
        "LANG": "tr_TR.UTF-8",
        "LC_ALL": "C",
    },
    "another processor": {
        "OPENBLAS_CORETYPE": "Nehalem",
        "OPENBLAS_NUM_THREADS": "1",
        "NPY_DISABLE_CPU_FEATURES": LATER_FEATURES,
        "PYTHONHASHSEED": "2",
        "TZ": "America/Lima",
        "LANG": "C",
    },
}
REFERENCE = {"OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "TZ": "UTC"}


def exports(environment, *arguments):
    """The digests that a process in an environment of its own prints."""
    kept = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT", "HOME")
    inherited = {name: os.environ[name] for name in kept if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "tests.deterministic_exports", *arguments],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def reference():
    return exports(REFERENCE)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_files_do_not_depend_on_the_environment(name, reference):
    one_core = ["--one-core"] if hasattr(os, "sched_setaffinity") else []
    found = exports(ENVIRONMENTS[name], *one_core)
    assert len(reference["fast"]) > 40 and "file" in reference["fast"]
    assert found["fast"] == reference["fast"]
    if found["small"]:
        assert found["small"] == reference["small"]
    assert bool(reference["small"]) is native.available()


def test_compiled_kernels_change_no_byte(reference):
    found = exports({"KERAS_SQUEEZE_NATIVE": "0"}, "--few")["fast"]
    assert len(found) > 8
    del found["file"]
    assert found == {name: reference["fast"][name] for name in found}


def test_logarithms_are_right_and_exact_multiples():
    table = logarithms.log2_table()
    wanted = np.log2(np.maximum(np.arange(table.size), 1))
    assert np.abs(table - wanted).max() < 1.001 * 2.0**-17
    scaled = np.ldexp(table, logarithms.FRACTION_BITS)
    assert (scaled == np.rint(scaled)).all()
    powers = 1 << np.arange(18)
    assert (table[powers] == np.arange(18)).all()


def test_logarithms_of_great_numbers():
    random = np.random.default_rng(0)
    numbers = (2.0 ** random.uniform(17, 52, 5000)).astype(np.int64)
    numbers = np.append(numbers, [(1 << 62) - 1, (1 << 53) - 1, 1 << 60])
    found = logarithms.log2_of(numbers)
    wanted = np.log2(numbers.astype(np.float64))
    assert np.abs(found - wanted).max() < 1.4e-5
    assert logarithms.log2_of(0) == 0 and logarithms.log2_of(1 << 40) == 40


def test_steps_of_logarithms():
    steps = logarithms.log2_steps()
    numbers = np.arange(1, logarithms.MOST_STEPS + 1)
    wanted = np.log1p(1 / numbers) / np.log(2)
    np.testing.assert_allclose(steps[1:], wanted, rtol=1e-14)
    assert steps[0] == np.inf and (np.diff(steps[1:]) < 0).all()


def test_no_expected_length_is_rounded():
    random = np.random.default_rng(1)
    counts = random.integers(0, 1 << 17, (40, 256))
    counts[:, 20:] >>= random.integers(0, 17, (40, 236))
    lengths = coarse_lengths()
    found = class_rans_family.expected_bits(counts.astype("float64"), lengths)
    whole = np.ldexp(lengths, logarithms.FRACTION_BITS)
    assert (whole == np.rint(whole)).all() and lengths.max() <= 24
    wanted = np.einsum("ij,kj->ik", counts, whole.astype(np.int64))
    assert (np.ldexp(found, logarithms.FRACTION_BITS) == wanted).all()


def test_lengths_of_frequencies():
    assert CODE_LENGTHS[0] == np.inf and CODE_LENGTHS[4096] == 0
    wanted = 12 - np.log2(np.arange(1, 4097))
    assert np.abs(CODE_LENGTHS[1:] - wanted).max() < 1.001 * 2.0**-17

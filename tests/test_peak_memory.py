"""Coding a tensor takes no more than a few times its size in memory."""

import tracemalloc

import numpy as np
import pytest

from keras_squeeze import codecs, native, quantizers
from keras_squeeze.codecs.dtypes import dtype_from_name

# What blocks of fixed size take, however large the tensor is.
BLOCKS = 12 << 20


def normal(mib, itemsize):
    rng = np.random.default_rng(0)
    shape = int(mib * 2**20) // itemsize // 2048, 2048
    scale = np.exp(0.3 * rng.standard_normal(2048, "float32"))
    return 0.05 * rng.standard_normal(shape, "float32") * scale


def codes(mib, zeros=0.0):
    found = np.rint(300 * normal(mib, 1)).clip(-127, 127).astype("int8")
    found[np.random.default_rng(1).random(found.shape) < zeros] = 0
    return found


def peak(task):
    """What a task returns, and the most it had in memory meanwhile."""
    tracemalloc.start()
    try:
        result = task()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MADE = {
    "float32": lambda mib: normal(mib, 4),
    "bfloat16": lambda mib: normal(mib, 2).astype(dtype_from_name("bfloat16")),
    "int8": codes,
    "zeros": lambda mib: codes(mib, 0.6),
}

# What each took before it worked in blocks is beside it.
CASES = [
    ("float_fields", "float32", 16),  # 4.7 times the tensor
    ("float_fields", "bfloat16", 8),  # 7.8
    ("byte_planes", "float32", 16),  # 6.4
    ("byte_planes", "bfloat16", 8),  # 10.6
    ("rans", "int8", 8),  # 15.8
    ("sparse", "zeros", 8),  # 8.0
    ("smallest", "int8", 8),  # 9.0
]


@pytest.mark.parametrize("codec, kind, mib", CASES)
def test_codecs_take_a_few_times_the_tensor(codec, kind, mib):
    if not native.available():
        pytest.skip("the kernels' references trade memory for simplicity")
    array = MADE[kind](mib)
    small = array[:64]
    encode = codecs.encode_smallest
    if codec != "smallest":
        one = codecs.get(codec)
        encode = lambda array: (one, one.encode(array))  # noqa: E731
    encode(small)
    (chosen, data), encoding = peak(lambda: encode(array))
    _, decoding = peak(lambda: chosen.decode(data, array.shape, array.dtype))
    assert encoding < 3 * array.nbytes + BLOCKS
    assert decoding < 3 * array.nbytes + BLOCKS


@pytest.mark.parametrize(
    "bits, granularity", [(8, "per_channel"), (4, "per_tensor")]
)
def test_quantization_takes_a_few_times_the_tensor(bits, granularity):
    array = normal(16, 4)
    quantizer = quantizers.get(
        {"id": "absmax", "bits": bits, "granularity": granularity}
    )
    found, encoding = peak(lambda: quantizer.encode(array, -1))
    _, decoding = peak(found.dequantize)
    assert encoding < 2 * array.nbytes + BLOCKS
    assert decoding < 1.5 * array.nbytes + BLOCKS

"""Every number that goes into a file comes out of it, bit for bit."""

import itertools
import os

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze import artifact, codecs
from keras_squeeze.artifact import TensorInput
from keras_squeeze.codecs import dtypes
from keras_squeeze.errors import LimitExceededError, SqueezeError

MODEL = {"class_name": "Model", "name": "tensors", "config": None}
ROUNDS = int(os.environ.get("KERAS_SQUEEZE_ROUNDS", "1"))
NAMES = [n for n in dtypes.DTYPE_NAMES if not n.startswith("float8")]
FLOATS = ("float16", "bfloat16", "float32", "float64")
SHAPES = (
    (),
    (0,),
    (1,),
    (0, 5),
    (3, 0, 2),
    (7, 3),
    (1, 5, 3),
    (37, 11),
    (999,),
)


def written(tmp_path, arrays, **arguments):
    """What arrays, a sequence or by name, are when read from a file."""
    named = arrays
    if not isinstance(arrays, dict):
        named = {str(i): array for i, array in enumerate(arrays)}
    tensors = [TensorInput.from_values(name, a) for name, a in named.items()]
    path = str(tmp_path / "a.h5")
    artifact.write(path, tensors, MODEL, keras_version="3.15.1", **arguments)
    found = artifact.read(path).decode_all()
    assert list(found) == list(named)
    return found if named is arrays else list(found.values())


def assert_same_bits(found, array):
    assert found.shape == array.shape and found.dtype.name == array.dtype.name
    assert found.dtype.isnative and found.flags.c_contiguous
    native = array.astype(array.dtype.newbyteorder("="))
    assert found.tobytes() == native.tobytes()


def in_order(array, order):
    """The same elements, laid out in memory as `order` says."""
    if order == "strided" and array.ndim:
        wide = np.zeros([2 * n + 1 for n in array.shape], array.dtype)
        view = wide[tuple(slice(None, 2 * n, 2) for n in array.shape)]
        view[...] = array
        return view
    if order == "big-endian":
        return array.astype(array.dtype.newbyteorder(">"))
    out = np.array(array, order="F" if order == "F" else "C")
    out.flags.writeable = order != "read-only"
    return out


@st.composite
def any_array(draw):
    name = draw(st.sampled_from(NAMES))
    shape = draw(st.sampled_from(SHAPES))
    order = draw(
        st.sampled_from(["C", "F", "strided", "big-endian", "read-only"])
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = dtypes.dtype_from_name(name)
    count = int(np.prod(shape))
    if name == "bool":
        array = random.integers(0, 2, shape).astype(bool)
    elif draw(st.booleans()):
        # Any bits: NaN payloads, denormals and extremes are among them.
        bits = random.bytes(count * dtype.itemsize)
        array = np.frombuffer(bits, dtype).reshape(shape)
    else:
        array = random.normal(0, 9, shape).round().astype("int8").astype(dtype)
    if name == "bfloat16" and order == "big-endian":
        order = "C"
    return in_order(array, order)


@settings(max_examples=40 * ROUNDS, deadline=None)
@given(arrays=st.lists(any_array(), min_size=1, max_size=4))
def test_any_array_comes_back(tmp_path_factory, arrays):
    folder = tmp_path_factory.mktemp("numbers")
    for found, array in zip(written(folder, arrays), arrays, strict=True):
        assert_same_bits(found, array)


def special_bits(name):
    """Zeros, infinities, NaNs of both kinds with payloads, the extremes."""
    dtype = dtypes.dtype_from_name(name)
    bits = 8 * dtype.itemsize
    info = ml_dtypes.finfo(dtype)
    infinity = ((1 << info.nexp) - 1) << info.nmant
    quiet = 1 << (info.nmant - 1)
    found = [
        0,
        1,
        (1 << info.nmant) - 1,
        1 << info.nmant,
        infinity - 1,
        infinity,
    ]
    found += [
        infinity + 1,
        infinity + quiet,
        infinity + quiet + 5,
        infinity + 3,
    ]
    signed = [*found, *(value | 1 << (bits - 1) for value in found)]
    return np.array(signed, f"<u{dtype.itemsize}").view(dtype)


@pytest.mark.parametrize("profile", ["fast", "small"])
def test_special_values_of_every_float(tmp_path, profile):
    arrays = [special_bits(name) for name in FLOATS]
    arrays += [np.tile(array, 200) for array in arrays]
    arrays += [special_bits("float32").view("complex64")]
    arrays += [special_bits("float64").view("complex128")]
    for found, array in zip(
        written(tmp_path, arrays, profile=profile), arrays, strict=True
    ):
        assert_same_bits(found, array)


def one_nonzero(dtype):
    array = np.zeros((50, 41), dtype)
    array[31, 7] = 1
    return array


def pruned(dtype, random):
    array = random.integers(1, 100, 20_000).astype(dtype)
    array[random.permutation(array.size)[20:]] = 0
    return array


@pytest.mark.parametrize("name", [n for n in NAMES if n != "bool"])
def test_arrays_of_few_values(tmp_path, rng, name):
    dtype = dtypes.dtype_from_name(name)
    two = np.array([3, 5], dtype)[rng.integers(0, 2, (40, 33))]
    constant = np.zeros((9, 100), dtype), np.full(900, 7, dtype)
    arrays = [*constant, one_nonzero(dtype), pruned(dtype, rng), two]
    for found, array in zip(written(tmp_path, arrays), arrays, strict=True):
        assert_same_bits(found, array)
    sizes = [p.stored_bytes for p in artifact.read(tmp_path / "a.h5").tensors]
    assert max(sizes[:3]) <= 24 and sizes[3] <= 60 + 20 * dtype.itemsize
    assert sizes[4] <= two.size / 8 + 50


def test_nothing_grows_beyond_its_own_bytes(tmp_path, rng):
    for name in NAMES:
        count = 100_000 // dtypes.dtype_from_name(name).itemsize
        raw = rng.bytes(count * dtypes.dtype_from_name(name).itemsize)
        array = np.frombuffer(raw, dtypes.dtype_from_name(name))
        if name == "bool":
            array = array.view("u1") % 2 == 0
        (found,) = written(tmp_path, [array], profile="fast")
        assert_same_bits(found, array)
        size = (tmp_path / "a.h5").stat().st_size
        assert size <= array.nbytes * 1.001 + 4096


def test_a_great_many_small_tensors(tmp_path, rng):
    count = 100_000 if ROUNDS > 1 else 300
    floats = rng.normal(size=(count, 3)).astype("float32")
    integers = rng.integers(0, 1 << 40, (count, 3))
    # Floats take longest to code; the time is linear in their number.
    arrays = {
        f"layer_{i}/bias": integers[i] if i % 20 else floats[i]
        for i in range(count)
    }
    found = written(tmp_path, arrays)
    assert all((found[name] == row).all() for name, row in arrays.items())
    assert artifact.verify(tmp_path / "a.h5").totals["ok"]
    opened = artifact.read(tmp_path / "a.h5")
    raw_bytes = sum(array.nbytes for array in arrays.values())
    assert opened.manifest.payload_bytes <= raw_bytes
    # A tensor's line in the manifest takes about ten bytes.
    size = (tmp_path / "a.h5").stat().st_size
    assert size <= opened.manifest.payload_bytes + 16 * count + 4096


@pytest.mark.slow
@pytest.mark.skipif(
    "KERAS_SQUEEZE_ROUNDS" not in os.environ,
    reason="some minutes and 20 GiB of memory",
)
def test_more_elements_than_31_bits_count(tmp_path):
    """Few of them are not zero, so that the file is small."""
    array = np.zeros((1 << 31) + 5, bool)
    places = [3, 1 << 30, array.size - 1]
    array[places] = True
    tensors, path = [TensorInput.from_values("w", array)], tmp_path / "a.h5"
    artifact.write(
        str(path), tensors, MODEL, keras_version="3", profile="fast"
    ).close()
    del array, tensors
    assert path.stat().st_size < 4096
    with pytest.raises(LimitExceededError, match="decoded bytes"):
        artifact.read(path)
    limits = artifact.Limits(max_decoded_bytes=1 << 32)
    with artifact.read(path, limits) as opened:
        found = opened.decode("w")
    assert found.shape == ((1 << 31) + 5,) and found.dtype == bool
    assert np.flatnonzero(found).tolist() == places


@pytest.mark.parametrize(
    "array",
    [
        np.array(["text"]),
        np.array([b"bytes"]),
        np.array([None, 1], object),
        np.zeros(3, ml_dtypes.int4),
        np.zeros(3, ml_dtypes.float8_e3m4),
        np.zeros(3, "datetime64[s]"),
        np.zeros(3, [("field", "int32")]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_other_dtypes_are_refused_by_name(tmp_path, array):
    with pytest.raises(SqueezeError, match=r"'dense/kernel'.*Received: dtype="):
        written(tmp_path, {"first": np.zeros(3), "dense/kernel": array})
    assert not list(tmp_path.iterdir())


def test_names_of_any_letters_and_of_a_kilobyte(tmp_path):
    names = ["größe/核", "a" * 1024, "ж" * 512, "with space/\u202e", "🦊"]
    arrays = {name: np.array([i]) for i, name in enumerate(names)}
    found = written(tmp_path, arrays)
    assert [int(array[0]) for array in found.values()] == list(range(5))
    with pytest.raises(SqueezeError, match=r"1,?024"):
        written(tmp_path, {"a" * 1025: np.zeros(1)})


TWO_SYMBOL_CODECS = (
    *("rans", "class_rans", "huffman", "bitpack", "sparse", "lzw", "deflate"),
    "byte_planes",
)


def two_symbol_arrays():
    """All arrays of two symbols: short ones, or with rounds up to twelve."""
    for length in range(1, 13 if ROUNDS > 1 else 7):
        for bits in itertools.product([0, 1], repeat=length):
            yield np.array(bits)
    for length, ones in itertools.combinations(range(13), 2):
        yield np.roll(np.arange(length + 6) < ones, length)


@pytest.mark.parametrize("name", TWO_SYMBOL_CODECS)
def test_every_distribution_of_two_symbols(name):
    codec = codecs.get(name)
    symbols = np.array([-3, 4], "int8" if name != "byte_planes" else "float16")
    for bits in two_symbol_arrays():
        array = symbols[bits.astype(int)]
        back = codec.decode(codec.encode(array), array.shape, array.dtype)
        assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("span", [1, 2, 255, 256, 257, 4096, 65536])
@pytest.mark.parametrize("name", ["rans", "class_rans", "context_mixing"])
def test_alphabets_of_every_size(name, span, rng):
    codec = codecs.get(name)
    steep = np.minimum(rng.geometric(0.3, 700) - 1, span - 1)
    even = np.append(rng.integers(0, span, 200), [0, span - 1])
    # One symbol has all of the table but one part.
    rare = np.append(np.zeros(5000, int), span - 1)
    for array in (steep, even, rare):
        array = array.astype("int32") - span // 2
        if codec.supports(array):
            back = codec.decode(codec.encode(array), array.shape, "int32")
            assert (back == array).all()

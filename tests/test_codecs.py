"""What all codecs share: the contract, the registry, the selection."""

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_squeeze import codecs
from keras_squeeze.codecs import dtypes
from keras_squeeze.codecs.profiles import fast_codecs
from keras_squeeze.errors import (
    CorruptArtifactError,
    SqueezeError,
    UnknownIdentifierError,
)
from keras_squeeze.testing import check_codec, sample_arrays

BUILT_IN = (
    *("bitpack", "byte_planes", "class_rans", "constant", "context_mixing"),
    *("deflate", "float_fields", "huffman", "lzw", "rans", "raw", "sparse"),
)
FLOAT_CODECS = ("byte_planes", "float_fields")
NUMPY_DTYPES = [n for n in dtypes.DTYPE_NAMES if n not in dtypes._ML_DTYPES]


def same_bits(a, b):
    return (
        a.dtype.name == b.dtype.name
        and a.shape == b.shape
        and (dtypes.bit_patterns(a) == dtypes.bit_patterns(b)).all()
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_codec_keeps_the_contract(name):
    check_codec(codecs.get(name))


@st.composite
def any_array(draw):
    dtype = np.dtype(draw(st.sampled_from(NUMPY_DTYPES)))
    if draw(st.booleans()):
        dtype = dtype.newbyteorder(">")
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
    few = None
    if dtype.kind in "iu":
        low = draw(st.integers(*dtypes.integer_range(dtype)))
        high = min(low + draw(st.integers(0, 20)), np.iinfo(dtype).max)
        few = st.integers(low, high)
    array = draw(hnp.arrays(dtype, shape, elements=few))
    if draw(st.booleans()):
        array = array.T
    return array[::-1] if array.ndim and draw(st.booleans()) else array


@settings(max_examples=120, deadline=None)
@given(any_array())
def test_round_trip_of_anything(array):
    for name in BUILT_IN:
        codec = codecs.get(name)
        if codec.supports(array):
            data = codec.encode(array)
            native = array.dtype.newbyteorder("=")
            assert same_bits(codec.decode(data, array.shape, native), array)


@pytest.mark.parametrize("name", BUILT_IN)
def test_random_bytes_raise_only_our_errors(name):
    codec, rng = codecs.get(name), random.Random(name)
    refused = 0
    for _ in range(1500):
        data = rng.randbytes(rng.choice((0, 1, 2, 3, 5, 9, 17, 40, 90)))
        shape = rng.choice([(), (0,), (1,), (7,), (300,), (40, 1001)])
        dtype = rng.choice(["bool", "int8", "uint16", "int64", "float32"])
        try:
            out = codec.decode(data, shape, dtype)
        except SqueezeError:
            refused += 1
        else:
            assert out.shape == shape and out.dtype == dtype
    assert refused > 300


def is_refused(codec, data, array):
    try:
        codec.decode(data, array.shape, array.dtype)
    except CorruptArtifactError as error:
        assert "Received" in str(error)
        return True
    return False


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_truncation_is_found(name):
    array = np.where(np.arange(600) % 7, 0, np.arange(600)).astype("int16")
    if name in FLOAT_CODECS:
        array = np.sqrt(array).astype("float32")
    if name == "constant":
        array = np.full(600, -3, "int16")
    codec = codecs.get(name)
    data = codec.encode(array)
    # One byte of `constant` is a smaller constant: nothing can tell. An
    # arithmetic coder reads on in zeros and has but a byte to check itself.
    accepted = {"constant": 1.0, "context_mixing": 0.03}.get(name, 0.0)
    found = [is_refused(codec, data[:cut], array) for cut in range(len(data))]
    assert found.count(False) <= accepted * len(found)
    with pytest.raises(CorruptArtifactError, match="Received"):
        codec.decode(data + b"\1", array.shape, array.dtype)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_negative_or_impossible_shape_is_refused(name):
    for shape in [(-1,), (1 << 40, 1 << 40), (2.5,)]:
        with pytest.raises(CorruptArtifactError, match="shape"):
            codecs.get(name).decode(b"\1\2\3", shape, "int8")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("raw", np.array([None])),
        ("deflate", np.array(["a"])),
        ("constant", np.array([1, 2])),
        ("bitpack", np.array([1.0])),
        ("rans", np.array([0, 5000])),
        ("class_rans", np.array([0, 70000])),
        ("context_mixing", np.array([0, 1 << 31])),
        ("sparse", np.arange(9)),
        ("byte_planes", np.arange(9)),
        ("float_fields", np.arange(9)),
    ],
)
def test_encoding_what_is_not_supported_is_refused(name, array):
    assert not codecs.get(name).supports(array)
    with pytest.raises(SqueezeError, match=f"{name}.*Received: dtype="):
        codecs.get(name).encode(array)


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_unknown_dtype_is_refused(name):
    with pytest.raises(SqueezeError, match="Received: 'object'"):
        codecs.get(name).decode(b"", (1,), "object")


def test_get_takes_a_name_a_config_or_a_codec():
    codec = codecs.get("rans")
    assert codecs.get({"id": "rans"}) == codec == codecs.Rans()
    assert codecs.get(codec) is codec
    assert codec != codecs.Raw() and codec != "rans"
    assert repr(codec) == "Rans()"


@pytest.mark.parametrize(
    "identifier", ["zip", {"id": "zip"}, {"name": "raw"}, 3, {"id": 3}]
)
def test_get_refuses_what_it_does_not_know(identifier):
    with pytest.raises(UnknownIdentifierError, match="Received"):
        codecs.get(identifier)


def test_get_refuses_an_argument_the_codec_does_not_take():
    with pytest.raises(UnknownIdentifierError, match="level"):
        codecs.get({"id": "rans", "level": 3})


def test_register_refuses_a_taken_id():
    with pytest.raises(ValueError, match="raw"):
        codecs.register(codecs.Raw)
    assert set(BUILT_IN) <= set(codecs.names())


@pytest.mark.parametrize(
    ("array", "winner"),
    [
        (np.zeros((30, 30), "float32"), "constant"),
        (np.arange(256, dtype="uint8"), "raw"),
        (np.arange(16, dtype="int8").repeat(1)[::-1].copy(), "bitpack"),
        (np.tile(np.arange(100, dtype="int32") ** 2, 50), "deflate"),
        (np.linspace(0.5, 1, 300, dtype="float32"), "float_fields"),
        (np.random.default_rng(0).binomial(9, 0.4, 5000), "class_rans"),
        (np.eye(120, dtype="float32") * np.pi, "sparse"),
    ],
)
def test_the_smallest_encoding_wins(array, winner):
    codec, data = codecs.encode_smallest(array)
    sizes = {
        name: len(codecs.get(name).encode(array))
        for name in ("raw", *(c.id for c in fast_codecs(array)))
        if codecs.get(name).supports(array)
    }
    assert len(data) == min(sizes.values())
    assert codec.id == winner or len(data) == sizes[winner]


def test_of_equal_encodings_the_cheapest_to_decode_wins():
    assert codecs.encode_smallest(np.zeros(0, "int8"))[0].id == "raw"
    assert codecs.encode_smallest(np.int8(5))[0].id == "raw"


def test_encode_smallest_never_exceeds_raw():
    for array in sample_arrays():
        codec, data = codecs.encode_smallest(array)
        assert len(data) <= array.nbytes
        native = array.dtype.newbyteorder("=")
        assert same_bits(codec.decode(data, array.shape, native), array)


def test_candidates_are_obeyed_and_raw_is_always_there():
    array = np.tile(np.arange(100, dtype="int32") ** 2, 50)
    assert codecs.encode_smallest(array, ["bitpack"])[0].id == "bitpack"
    noise = np.frombuffer(random.Random(1).randbytes(99), "uint8")
    assert codecs.encode_smallest(noise, ["rans"])[0].id == "raw"


def test_encode_smallest_names_an_unsupported_dtype():
    with pytest.raises(SqueezeError, match="dtype=object"):
        codecs.encode_smallest(np.array([None]))


def test_decode_all_mixes_codecs():
    items, arrays = [], sample_arrays()
    for array in arrays:
        codec, data = codecs.encode_smallest(array)
        dtype = array.dtype.newbyteorder("=")
        items.append((codec, (data, array.shape, dtype)))
    for out, array in zip(codecs.decode_all(items), arrays, strict=True):
        assert same_bits(out, array)
    assert codecs.decode_all([]) == []


def test_codecs_import_neither_keras_nor_ml_dtypes():
    code = (
        "import sys, keras_squeeze.codecs; "
        "print([m for m in ('keras', 'tensorflow', 'ml_dtypes', 'h5py') "
        "if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"

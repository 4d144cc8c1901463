import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze.codecs import Rans, class_rans_native
from keras_squeeze.codecs.class_rans import ClassRans
from keras_squeeze.codecs.rans import entropy_bits
from keras_squeeze.codecs.trellis import STATES, Trellis
from keras_squeeze.errors import CorruptArtifactError, SqueezeError
from keras_squeeze.testing import check_codec
from tests.class_rans_samples import (
    damaged_streams,
    int8,
    kernel,
    trellis_codes,
)

CODEC = ClassRans()


def round_trip(array, codec=CODEC):
    data = codec.encode(array)
    out = CODEC.decode(data, array.shape, array.dtype)
    assert out.dtype == array.dtype and (out == array).all()
    return data


def entropy_bytes(array):
    return entropy_bits(np.unique(array, return_counts=True)[1]) / 8


def test_the_contract_of_codecs():
    check_codec(CODEC)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8"])
@pytest.mark.parametrize(
    "shape", [(1,), (33,), (7, 5), (3, 3, 8, 40), (5, 4, 3), (100, 1), (64, 65)]
)
def test_shapes_and_dtypes(shape, dtype):
    rng = np.random.default_rng(1)
    array = rng.integers(0, 9, shape) * rng.integers(0, 2, shape)
    round_trip(array.astype(dtype))
    round_trip(np.asfortranarray(array.astype(dtype)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_integers(data):
    draw = data.draw
    dtype = np.dtype(
        draw(st.sampled_from(["int8", "uint16", "int32", "uint64"]))
    )
    rank = draw(st.integers(0, 4))
    shape = tuple(draw(st.integers(1, 6)) for _ in range(rank))
    info = np.iinfo(dtype)
    span = draw(st.integers(0, min(int(info.max) - int(info.min), 65535)))
    low = draw(st.integers(int(info.min), int(info.max) - span))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    offsets = rng.integers(0, span + 1, shape).astype(dtype)
    # The dtype's own arithmetic: no intermediate holds all of uint64.
    round_trip(offsets + dtype.type(low))


@pytest.mark.parametrize("alphabet", [2, 3, 15, 254, 255, 256, 257, 65536])
@pytest.mark.parametrize("count", [2, 31, 5000])
def test_alphabets_of_every_size(alphabet, count):
    rng = np.random.default_rng(alphabet)
    values = rng.integers(-2000, -2000 + alphabet, count).astype("int32")
    values[0], values[-1] = -2000, -2001 + alphabet
    round_trip(values)


def test_wide_ranges_and_floats_are_not_supported():
    assert CODEC.supports(np.array([0, 65535], "int32"))
    assert not CODEC.supports(np.array([0, 65536], "int32"))
    assert not CODEC.supports(np.zeros(3, "float32"))
    with pytest.raises(SqueezeError, match="Received"):
        CODEC.encode(np.array([0, 65536], "int32"))


def test_constants_and_empty_arrays_take_next_to_nothing():
    assert CODEC.encode(np.zeros((0, 3), "int8")) == b""
    assert len(round_trip(np.full((300, 200), -3, "int8"))) == 2
    assert len(round_trip(np.full(9, 2**63, "uint64"))) == 11


@pytest.mark.parametrize("shape", [(400, 320), (3, 3, 64, 96)])
@pytest.mark.parametrize("scale, most", [(2.0, 7), (30.0, 127)])
def test_scales_of_channels_and_inputs_pay(shape, scale, most):
    array = int8(kernel(shape, scale), most)
    assert len(round_trip(array)) < 0.98 * entropy_bytes(array)


def test_neighbours_pay():
    rng = np.random.default_rng(0)
    walk = int8(np.cumsum(rng.normal(0, 3, (500, 96)), 0), 100)
    assert len(round_trip(walk)) < 0.85 * entropy_bytes(walk)


def test_wide_codes_come_close_to_their_entropy():
    rng = np.random.default_rng(0)
    array = rng.normal(0, 3000, (300, 400)).round().astype("int16")
    # Known in closed form: the counts of so many values say too little.
    entropy = array.size * math.log2(3000 * math.sqrt(2 * math.pi * math.e)) / 8
    assert len(round_trip(array)) < 1.004 * entropy


def test_sparse_codes_come_close_to_the_floor():
    rng = np.random.default_rng(0)
    count, nonzero = 1_000_000, 10_000
    values = rng.laplace(0, 6, nonzero).round().clip(-30, 30)
    values[values == 0] = 1
    array = np.zeros(count, "int8")
    array[rng.choice(count, nonzero, replace=False)] = values
    places = math.lgamma(count + 1) - math.lgamma(nonzero + 1)
    places -= math.lgamma(count - nonzero + 1)
    floor = places / math.log(2) / 8 + entropy_bytes(values)
    assert len(round_trip(array.reshape(1000, 1000))) < 1.03 * floor


@pytest.mark.parametrize("count", [3, 10, 100, 1000, 20000])
@pytest.mark.parametrize("zeros", [0.0, 0.9])
def test_never_much_larger_than_plain_rans(count, zeros):
    rng = np.random.default_rng(count)
    array = int8(rng.laplace(0, 2.2, count), 7)
    array[rng.random(count) < zeros] = 0
    assert len(round_trip(array)) <= len(Rans().encode(array)) + 4


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize(
    "shape, geometry, chains",
    [
        ((40, 70), "matrix", 32),
        ((70, 24), "matrix_transposed", 16),
        ((3, 3, 6, 40), "convolution", 32),
        ((3, 3, 50, 2), "convolution_transposed", 8),
        ((9, 4, 5), "matrix_first_axis", 1),
    ],
)
def test_trellis(states, shape, geometry, chains):
    rng = np.random.default_rng(states)
    trellis = Trellis(states, geometry, chains)
    levels = rng.laplace(0, 2, shape).round().astype("int16")
    codes = trellis_codes(levels, trellis)
    data = round_trip(codes, ClassRans(trellis=trellis))
    # The grid is known: a code takes no more than its level.
    assert len(data) < 1.15 * entropy_bytes(levels) + 4 * chains + 40


def test_trellis_goes_on_over_blocks():
    trellis = Trellis(8, "matrix", 2)
    rng = np.random.default_rng(0)
    levels = rng.laplace(0, 2, (5000, 3)).round().astype("int8")
    codes = trellis_codes(levels, trellis)
    data = round_trip(codes, ClassRans(trellis=trellis))
    assert len(CODEC.parse(data, codes.shape, "int8").stream.states) > 1


@pytest.mark.parametrize(
    "trellis",
    [
        Trellis(8, "matrix", 32),
        Trellis(8, "matrix", 33),
        Trellis(8, "matrix", 12),
        Trellis(8, "convolution", 32),
    ],
)
def test_what_no_trellis_made_is_refused(trellis):
    codes = np.arange(200, dtype="int8").reshape(20, 10)
    with pytest.raises(SqueezeError, match="Received"):
        ClassRans(trellis=trellis).encode(codes)


def test_trellis_is_no_part_of_the_config():
    codec = ClassRans(trellis=Trellis(8, "matrix"))
    assert codec.get_config() == {"id": "class_rans"} and codec == CODEC


def test_many_are_decoded_as_one_by_one():
    rng = np.random.default_rng(0)
    arrays = [
        int8(kernel((9, 50), 3)),
        rng.integers(0, 2, 300).astype(bool),
        np.zeros((0, 2), "int16"),
        np.full((4, 4), 7, "uint8"),
        rng.integers(-30000, 30000, (40, 50)).astype("int16"),
        int8(np.cumsum(rng.normal(0, 3, (300, 40)), 0), 100),
    ]
    items = [(CODEC.encode(a), a.shape, a.dtype) for a in arrays]
    for array, out in zip(arrays, CODEC.decode_many(items), strict=True):
        assert out.dtype == array.dtype and (out == array).all()


@pytest.mark.parametrize("shape", [(60, 64), (3, 3, 20, 50), (50, 1), (33,)])
@pytest.mark.parametrize("dtype", ["int8", "int16", "int64", "uint32"])
def test_decode_scaled(shape, dtype):
    array = np.abs(int8(kernel((1, *shape), 20)[0])).astype(dtype)
    data = CODEC.encode(array)
    rng = np.random.default_rng(0)
    scales = [0.37, rng.random(shape[-1]), rng.random((*shape[:-1], 1))]
    for scale in scales:
        scale = np.asarray(scale, "float32")
        out = CODEC.decode_scaled(data, shape, dtype, scale)
        assert out.dtype == np.float32 and out.flags.c_contiguous
        assert (out == array.astype("float32") * scale).all()


@pytest.mark.parametrize("number", range(6))
def test_damage_is_an_error_of_ours_or_goes_unnoticed(number):
    data, array = damaged_streams()[number]
    rng = np.random.default_rng(number)
    for _ in range(300):
        hostile = bytearray(data)
        end = min(len(data), 120) if rng.random() < 0.7 else len(data)
        for place in rng.integers(0, end, rng.integers(1, 4)):
            hostile[place] = rng.integers(256)
        if rng.random() < 0.3:
            del hostile[rng.integers(len(hostile)) :]
        try:
            out = CODEC.decode(bytes(hostile), array.shape, array.dtype)
        except CorruptArtifactError:
            continue
        assert out.shape == array.shape and out.dtype == array.dtype


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 127))
def test_random_bytes(data, form):
    hostile = bytes([form]) + data
    for shape in ((40, 33), (3, 3, 4, 5), (700,)):
        try:
            CODEC.decode(hostile, shape, "int8")
        except CorruptArtifactError:
            continue


def test_a_truncated_or_longer_stream_is_noticed():
    for data, array in damaged_streams():
        for bad in (data[:-1], data[:-2], data + b"\0", data + b"\0\0", b""):
            with pytest.raises(CorruptArtifactError, match="Received"):
                CODEC.decode(bad, array.shape, array.dtype)


def test_other_shapes_and_dtypes_are_noticed():
    array = int8(kernel((40, 40), 3), 7)
    data = CODEC.encode(array)
    for shape, dtype in (
        ((40, 41), "int8"),
        ((80, 40), "int8"),
        ((3,), "int8"),
    ):
        with pytest.raises(CorruptArtifactError):
            CODEC.decode(data, shape, dtype)
    with pytest.raises(CorruptArtifactError):
        CODEC.decode(data, array.shape, bool)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("dtype", ["int8", "int64"])
@pytest.mark.parametrize(
    "shape, trellis",
    [
        ((3, 3, 40, 300), None),
        ((900, 100), None),
        ((30, 4, 1100), Trellis(8, "convolution_transposed", 16)),
        ((150_001,), None),
        ((3,), None),
        ((0, 4), None),
    ],
)
def test_one_block_at_a_time(shape, trellis, dtype, native, monkeypatch):
    if not native:
        monkeypatch.setattr(class_rans_native, "available", lambda: False)
    rng = np.random.default_rng(4)
    array = rng.laplace(0, 2, shape).round().astype(dtype)
    if trellis is not None:
        array = trellis_codes(array, trellis)
    data = ClassRans(trellis).encode(array)
    count = CODEC.count_blocks(data, shape, dtype)
    seen = np.zeros(array.size, int)
    for block in range(count):
        places, values = CODEC.decode_block(data, shape, dtype, block)
        assert values.dtype == array.dtype
        assert (array.reshape(-1)[places] == values).all()
        seen[places] += 1
    assert (seen == 1).all()
    with pytest.raises(SqueezeError, match="Expected the number of one"):
        CODEC.decode_block(data, shape, dtype, count)


def test_a_damaged_block_alone_is_noticed():
    array = int8(kernel((1, 400, 400), 20)[0])
    data = bytearray(CODEC.encode(array))
    data[-2] ^= 255
    last = CODEC.count_blocks(data, array.shape, "int8") - 1
    CODEC.decode_block(data, array.shape, "int8", 0)
    with pytest.raises(CorruptArtifactError):
        CODEC.decode_block(data, array.shape, "int8", last)


def test_decode_scaled_into_memory_of_the_caller():
    shape = 60, 64
    codes = int8(kernel(shape, 3))
    data = CODEC.encode(codes)
    scale = np.linspace(0.1, 2, 64, dtype="float32")
    out = np.full(shape, np.nan, "float32")
    assert CODEC.decode_scaled(data, shape, "int8", scale, out) is out
    assert (out == codes.astype("float32") * scale).all()
    rows = np.linspace(0.1, 2, 60, dtype="float32")[:, None]
    assert CODEC.decode_scaled(data, shape, "int8", rows, out) is out
    assert (out == codes.astype("float32") * rows).all()
    for wrong in (out[:, :60], out.T, out.astype("float64"), out[::-1]):
        with pytest.raises(SqueezeError, match="C-contiguous float32"):
            CODEC.decode_scaled(data, shape, "int8", scale, wrong)

"""The codec as a whole: round trips, choices, damage, sizes."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_squeeze import native
from keras_squeeze.codecs import (
    context_mixing,
    context_mixing_fit,
    context_mixing_native,
)
from keras_squeeze.codecs import context_mixing_header as headers
from keras_squeeze.codecs.context_mixing import ContextMixing
from keras_squeeze.codecs.kernel_geometry import (
    KINDS,
    from_canonical,
    geometry_of,
)
from keras_squeeze.codecs.trellis import Trellis, next_states
from keras_squeeze.errors import CorruptArtifactError, SqueezeError
from keras_squeeze.testing import check_codec

needs_kernel = pytest.mark.skipif(
    not ContextMixing().is_fast, reason="no compiled kernel"
)


def round_trip(array, codec=None):
    codec = codec or ContextMixing()
    data = codec.encode(array)
    out = codec.decode(data, array.shape, array.dtype)
    np.testing.assert_array_equal(out, array)
    assert out.dtype == array.dtype
    return data


def laplace(shape, scale, seed=0, limit=127):
    random = np.random.default_rng(seed)
    values = np.rint(random.laplace(size=shape) * scale)
    return values.clip(-limit, limit).astype(np.int32)


def trellis_codes(levels, trellis):
    """The reconstruction points of levels of shape (inputs, channels)."""
    machine = next_states(trellis.states)
    codes = np.zeros_like(levels)
    for chain in range(trellis.chains):
        state = 0
        for channel in range(chain, levels.shape[1], trellis.chains):
            for place, level in enumerate(levels[:, channel]):
                code = 2 * level - np.sign(level) * (state & 1)
                codes[place, channel] = code
                state = machine[state, abs(level) & 1]
    return codes


@pytest.fixture
def without_kernel(monkeypatch):
    monkeypatch.setattr(context_mixing_native, "kernel", lambda: None)


@needs_kernel
def test_keeps_the_contract():
    check_codec(ContextMixing())


def test_keeps_the_contract_without_a_compiler(without_kernel):
    random = np.random.default_rng(0)
    arrays = [
        random.integers(-3, 4, (5, 6)).astype("int8"),
        np.zeros((2, 3), "uint16"),
        np.array(True),
        np.array([[True, False]]),
        np.array([9, -70000, 0], "int64"),
    ]
    assert not ContextMixing().is_fast
    check_codec(ContextMixing(), arrays)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "bool"]),
        hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6),
    )
)
def test_round_trips_of_any_shape(array):
    if ContextMixing().supports(array):
        round_trip(array)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int64", "uint64"])
def test_values_at_the_ends_of_a_dtype(dtype):
    info = np.iinfo(dtype)
    for edge in (info.min, info.max):
        near = [edge, edge + 1] if edge < 0 or edge == 0 else [edge, edge - 1]
        round_trip(np.array(near * 5 + [edge], dtype))


def test_wide_spans_are_refused():
    array = np.array([0, 1 << 31])
    assert not ContextMixing().supports(array)
    assert ContextMixing().supports(array // 2)
    with pytest.raises(SqueezeError, match="Received"):
        ContextMixing().encode(array)


def test_many_axes():
    round_trip(laplace((1,) * 14 + (2, 3, 1, 4) + (1,) * 12, 3))


def test_a_constant_array_is_a_few_bytes():
    assert len(round_trip(np.full((50, 60), -7, "int8"))) == 2
    assert round_trip(np.zeros((0, 4), "int8")) == b""


def test_unsigned_codes_are_centred():
    codes = (laplace((60, 60), 6) + 128).astype(np.uint8)
    signed = codes.astype(np.int16) - 128
    assert len(round_trip(codes)) < len(round_trip(signed)) + 8


def test_decode_many_keeps_the_order():
    arrays = [laplace((n, 40), 2, n) for n in (3, 1000, 1, 300)]
    codec = ContextMixing()
    items = [(codec.encode(a), a.shape, a.dtype) for a in arrays]
    for out, array in zip(codec.decode_many(items), arrays, strict=True):
        np.testing.assert_array_equal(out, array)


@pytest.mark.parametrize("with_trellis", [False, True])
def test_blocks(monkeypatch, with_trellis):
    monkeypatch.setattr(headers, "BLOCK_SIZE", 500)
    trellis = Trellis(8, "matrix", 4) if with_trellis else None
    codes = laplace((40, 50), 2)
    if trellis is not None:
        codes = trellis_codes(codes, trellis)
    codec = ContextMixing(trellis)
    assert len(headers.block_channels(geometry_of(codes.shape, "matrix"))) == 5
    data = round_trip(codes, codec)
    assert ContextMixing().decode(data, codes.shape, codes.dtype).any()
    assert codec.trellis_of(data, codes.shape) == trellis


@pytest.mark.parametrize("states", [4, 8, 128])
def test_a_trellis_is_followed(states):
    trellis = Trellis(states, "matrix", 3)
    levels = laplace((30, 20), 1.5)
    codes = trellis_codes(levels, trellis)
    data = round_trip(codes, ContextMixing(trellis))
    # Following the machine costs about what the levels alone do.
    plain = round_trip(levels)
    assert len(data) < 1.1 * len(plain) + 16
    assert len(data) < 0.9 * len(round_trip(codes))


@needs_kernel
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_trellis_of_a_large_array(monkeypatch, kind):
    monkeypatch.setattr(context_mixing_fit, "_WHOLE", 300)
    monkeypatch.setattr(context_mixing_fit, "_SAMPLE", 200)
    trellis, shape = Trellis(8, kind, 3), (3, 2, 12, 14)
    layout = geometry_of(shape, kind)
    levels = laplace((layout.taps * layout.inputs, layout.channels), 2)
    canonical = trellis_codes(levels, trellis).T
    size = layout.channels, layout.taps, layout.inputs
    codes = from_canonical(canonical.reshape(size), layout, shape)
    round_trip(codes, ContextMixing(trellis))


def test_codes_of_no_trellis_are_refused():
    codec = ContextMixing(Trellis(8, "matrix", 3))
    with pytest.raises(SqueezeError, match="Received"):
        codec.encode(np.ones((5, 5), np.int8) + np.eye(5, dtype=np.int8))


@needs_kernel
@pytest.mark.parametrize("density", [0.2, 0.01, 0.001])
def test_sparse_arrays_need_no_index(density):
    random = np.random.default_rng(0)
    count = 400_000
    codes = np.zeros(count, np.int8)
    chosen = random.choice(count, int(density * count), replace=False)
    codes[chosen] = random.choice([-3, -2, -1, 1, 2, 3], chosen.size)
    chances = chosen.size / count, 1 - chosen.size / count
    floor = -count * sum(p * math.log2(p) for p in chances)
    floor += chosen.size * math.log2(6)
    data = round_trip(codes.reshape(1000, 400))
    # Four hundred nonzeros hardly repay what it takes to learn their scale.
    most = 1.03 if density > 0.001 else 1.1
    assert 8 * len(data) < most * floor + 64


@needs_kernel
def test_channels_and_inputs_of_different_scale():
    random = np.random.default_rng(0)
    scales = np.exp(random.normal(size=200))[:, None]
    scales = scales * np.exp(random.normal(size=100))
    weights = random.normal(size=(200, 100)) * 4 * scales
    codes = np.rint(weights).clip(-30000, 30000).astype(np.int16)
    # The entropy of rounded Gaussians of known scale, less what learning the
    # scales must cost.
    bits = np.log2(np.maximum(4 * scales * math.sqrt(2 * math.pi * math.e), 1))
    assert 8 * len(round_trip(codes)) < 1.06 * bits.sum() + 4 * 300


@needs_kernel
def test_resemblance_of_neighbours_is_used():
    random = np.random.default_rng(0)
    steps = np.cumsum(random.normal(size=(300, 64)), axis=0)
    codes = np.rint(8 * steps / np.abs(steps).max() * 8).astype(np.int8)
    shuffled = random.permuted(codes, axis=0)
    assert len(round_trip(codes)) < 0.6 * len(round_trip(shuffled))


@needs_kernel
def test_the_better_geometry_is_found():
    random = np.random.default_rng(0)
    scales = np.exp(1.5 * random.normal(size=(150, 1)))
    codes = np.rint(random.laplace(size=(150, 150)) * scales).astype(np.int32)
    tried = {}
    for kind in ("matrix", "matrix_transposed"):
        codec = ContextMixing(kinds=[kind])
        data = round_trip(codes, codec)
        assert codec.kind_of(data, codes.shape) == kind
        tried[kind] = len(data)
    assert len(round_trip(codes)) == min(tried.values())


def test_small_headers():
    assert len(round_trip(laplace((10, 10), 1))) < 100 * 2.6 / 8 + 10


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes_raise_nothing_else(seed):
    random = np.random.default_rng(seed)
    data = random.bytes(int(random.integers(0, 60)))
    for dtype in ("int8", "uint16", "int64"):
        for shape in ((), (7,), (5, 20), (3, 3, 4, 5)):
            try:
                out = ContextMixing().decode(data, shape, dtype)
            except CorruptArtifactError:
                continue
            assert out.shape == shape


def test_nearly_any_change_is_noticed():
    codes = laplace((30, 40), 3)
    data = ContextMixing().encode(codes)
    damaged = [data[:end] for end in range(len(data))]
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        damaged.append(bytes(changed))
    noticed = 0
    for wrong in damaged:
        try:
            ContextMixing().decode(wrong, codes.shape, codes.dtype)
        except CorruptArtifactError:
            noticed += 1
    assert noticed > 0.99 * len(damaged)


def test_few_bytes_hold_no_huge_array():
    data = ContextMixing().encode(laplace((30, 40), 3))
    for shape in ((1 << 40,), (1 << 19, 1 << 20)):
        with pytest.raises(CorruptArtifactError, match="Received"):
            ContextMixing().decode(data, shape, "int8")


def test_values_beyond_the_dtype_are_damage():
    data = ContextMixing().encode(laplace((30, 40), 300, limit=2000))
    with pytest.raises(CorruptArtifactError, match=r"-128\.\.127"):
        ContextMixing().decode(data, (30, 40), "int8")


def test_float_dtypes_are_refused():
    assert not ContextMixing().supports(np.zeros(3, np.float32))
    with pytest.raises(CorruptArtifactError, match="integer dtype"):
        ContextMixing().decode(b"\7\0", (3,), "float32")


def test_the_kernel_is_found_where_it_was_built():
    found = native.function.__wrapped__ if native.available() else None
    assert (found is not None) == native.available()
    assert context_mixing.ContextMixing().is_fast == (
        context_mixing_native.kernel() is not None
    )


@needs_kernel
def test_threads_choose_what_one_thread_does(monkeypatch):
    codes = laplace((3, 3, 12, 20), 2)
    alone = ContextMixing().encode(codes)
    monkeypatch.setattr(context_mixing_fit, "_THREADED", 0)
    assert ContextMixing().encode(codes) == alone


def test_more_blocks_than_bytes_are_refused_before_they_are_listed():
    array = np.arange(-60, 60, dtype=np.int8).reshape(10, 12)
    data = ContextMixing().encode(array)
    tracemalloc.start()
    with pytest.raises(CorruptArtifactError, match="blocks"):
        ContextMixing().decode(data, (1 << 22, 1 << 22), np.int8)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()

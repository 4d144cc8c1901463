"""`float_residual`: exact for all floats, small for small changes."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from keras_squeeze.codecs import FloatFields, float_residual
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.float_residual_sections import (
    read_bits,
    read_list,
    write_bits,
    write_list,
)
from keras_squeeze.codecs.float_residual_steps import fit
from keras_squeeze.codecs.float_residual_tokens import (
    MOST_KEPT,
    rest_widths_of,
    split_tokens,
    tokens_of,
)
from keras_squeeze.codecs.float_residual_units import FORMATS, STILL, Grid
from keras_squeeze.errors import CorruptArtifactError, SqueezeError

DTYPES = [
    np.dtype("float16"),
    np.dtype("float32"),
    np.dtype("float64"),
    np.dtype("complex64"),
    np.dtype(ml_dtypes.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e5m2),
]
SHAPES = [(), (0,), (2, 0), (1,), (7,), (20, 11), (3, 3, 2, 8), (1, 90)]


def round_trip(array, base):
    data = float_residual.encode(array, base)
    back = float_residual.decode(data, base, array.shape, array.dtype)
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    return len(data)


def step(rng, base, size):
    change = np.exp2(rng.normal(size=(len(base), 1))) * size
    return (base + change * rng.normal(size=base.shape)).astype("float32")


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip(dtype, shape, rng):
    base = np.asarray(rng.normal(size=shape)).astype(dtype)
    for size in (0, 1e-30, 1e-3, 1):
        moved = base.astype(complex if dtype.kind == "c" else float)
        moved = np.asarray(moved + size * rng.normal(size=shape))
        array = np.asarray(np.clip(moved.real, -400, 400).astype(dtype))
        round_trip(array, base)
        array[...] = np.where(rng.random(shape) < 0.3, 0, array)
        round_trip(array, base)
        round_trip(np.asarray(-array), base)


@pytest.mark.parametrize("name", FORMATS)
def test_every_magnitude_comes_back(name, rng):
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    word = np.dtype(f"u{dtype.itemsize}")
    bits = rng.integers(0, np.iinfo(word).max, (2, 3000), word, True)
    pair = bits.view(dtype)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(pair.astype(float)).all(axis=0)
    array, base = pair[:, good]
    if name == "float64":
        assert float_residual.encode(array, base) is None
        shifts = rng.integers(-440, -420, pair.shape)
        pair = np.ldexp(rng.normal(size=pair.shape), shifts)
        array, base = pair
    round_trip(array, base)
    near = base.copy()
    near.view(word)[::3] ^= 1
    near = np.where(np.isfinite(near.astype(float)), near, base)
    assert round_trip(near, base) < near.nbytes / 2 + 100 * dtype.itemsize


@settings(max_examples=40, deadline=None)
@given(
    npst.arrays(
        np.float32,
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    st.integers(0, 2**32 - 1),
)
def test_any_pair_of_arrays(base, seed):
    rng = np.random.default_rng(seed)
    array = rng.permutation(base.reshape(-1)).reshape(base.shape)
    if float_residual.encode(array, base) is not None:
        round_trip(array, base)


def test_what_is_not_finite_or_unlike_is_refused(rng):
    base = rng.normal(size=(4, 5)).astype("float32")
    bad = base.copy()
    bad[1, 1] = np.nan
    for array, other in (
        (bad, base),
        (base, bad),
        (base, base.astype("float64")),
        (base, base[:2]),
        (base.astype("int32"), base.astype("int32")),
    ):
        assert not float_residual.supports(array, other)
        with pytest.raises(SqueezeError):
            float_residual.encode(array, other)
    data = float_residual.encode(base, base)
    for other in (bad, base[:2], base.astype("float16")):
        with pytest.raises(CorruptArtifactError):
            float_residual.decode(data, other, base.shape, "float32")


def test_small_changes_are_small(rng):
    base = rng.normal(size=(200, 100)).astype("float32")
    whole = len(FloatFields().encode(base))
    sizes = [round_trip(step(rng, base, 4.0**-n), base) for n in range(2, 9)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] < 0.87 * whole
    # Two bits a weight and a power of four, less what a sign still costs.
    assert sizes[0] - sizes[4] > 0.9 * base.size


def test_near_the_entropy_of_a_normal_step(rng):
    base = rng.normal(size=(300, 200)).astype("float32")
    array = (base + 2.0**-8 * rng.normal(size=base.shape)).astype("float32")
    places = np.frexp(array)[1] - 24.0
    bits = np.log2(2.0**-8 * np.sqrt(2 * np.pi * np.e)) - places
    assert round_trip(array, base) * 8 < 1.01 * bits.sum()


def test_still_rows_and_columns_cost_nothing(rng):
    base = rng.normal(size=(256, 128)).astype("float32")
    array = step(rng, base, 0.01)
    whole = round_trip(array, base)
    array[::2] = base[::2]
    array[:, ::2] = base[:, ::2]
    assert round_trip(array, base) < 0.28 * whole


def test_masks_of_pruned_kernels_cost_nothing_where_they_stay(rng):
    base = rng.normal(size=(200, 100)).astype("float32")
    array = step(rng, base, 0.01)
    mask = rng.random(base.shape) < 0.9
    array[mask], base[mask] = 0, 0
    assert round_trip(array, base) < 0.3 * array.size
    array[0, :10] = 1.5
    base[1, :10] = 1.5
    round_trip(array, base)


def test_bits_that_no_value_uses_are_not_stored(rng):
    dtype = ml_dtypes.bfloat16
    base = rng.normal(size=(100, 100)).astype(dtype)
    array = (base.astype("f4") * 1.01).astype(dtype)
    own = round_trip(array, base)
    wide = round_trip(array.astype("float32"), base.astype("float32"))
    assert abs(wide - own) < 10


def test_negative_zeros_and_tiny_values(rng):
    base = rng.normal(size=100).astype("float32")
    array = base.copy()
    array[::7], array[1::7], array[2::7] = -0.0, 1e-44, -1e-30
    round_trip(array, base)
    round_trip(base, array)


def test_blocks(rng, monkeypatch):
    monkeypatch.setattr(float_residual, "_BLOCK", 64)
    for shape in ((50, 7), (3, 200), (300,), (2, 3, 30)):
        base = rng.normal(size=shape).astype("float32")
        round_trip((base * 1.001).astype("float32"), base)


def test_any_damage_is_refused_or_decodes_to_something(rng):
    base = rng.normal(size=(6, 5)).astype("float32")
    data = float_residual.encode(step(rng, base, 0.01), base)
    for stop in range(len(data)):
        with pytest.raises(CorruptArtifactError):
            float_residual.decode(data[:stop], base, base.shape, "float32")
    with pytest.raises(CorruptArtifactError):
        float_residual.decode(data + b"\0", base, base.shape, "float32")
    for place in range(len(data)):
        for value in (0, 255, data[place] ^ 1):
            damaged = bytearray(data)
            damaged[place] = value
            try:
                found = float_residual.decode(
                    damaged, base, base.shape, "float32"
                )
            except CorruptArtifactError:
                continue
            assert found.shape == base.shape


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_noise_is_refused_or_decodes_to_something(noise):
    base = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
    data = bytes([len(noise)]) + noise
    try:
        found = float_residual.decode(data, base, base.shape, "float32")
    except CorruptArtifactError:
        return
    assert found.shape == base.shape


def test_tokens_come_back():
    sizes = np.concatenate([np.arange(70), 2 ** np.arange(7, 61)])
    for kept in range(MOST_KEPT + 1):
        leading, rest = split_tokens(tokens_of(sizes, kept), kept)
        assert (leading == sizes >> rest).all()
        assert (rest == rest_widths_of(sizes, kept)).all()
        assert (np.diff(tokens_of(sizes, kept)) >= 0).all()


def test_lists_and_bits(rng):
    widths = rng.integers(0, 62, 50)
    values = rng.integers(0, 2**62, 50).astype(np.uint64)
    values &= (np.uint64(1) << widths.astype(np.uint64)) - np.uint64(1)
    numbers = rng.integers(0, 9, 5000).astype(np.uint16)
    data = write_bits(values, widths) + write_list(numbers)
    cursor = ByteCursor(data, "test")
    assert (read_bits(cursor, widths) == values).all()
    assert (read_list(cursor, 5000, np.uint16) == numbers).all()
    cursor.finish()
    with pytest.raises(CorruptArtifactError, match="more bytes"):
        read_bits(ByteCursor(b"\0", "test"), widths)


def test_steps_follow_rows_and_columns(rng):
    rows, columns = 2.0 ** rng.integers(-9, 0, (80, 1)), np.ones((1, 60))
    columns[0, :30] = 1 / 64
    columns[0, 7] = 0
    changes = rows * columns * rng.normal(size=(80, 60))
    places = np.full(changes.shape, -26)
    counted = np.ones(changes.shape, bool)
    found = fit(changes, counted, places).whole()
    assert (found[:, 7] == STILL).all()
    expected = 2 * np.log2(np.maximum(rows * columns, 1e-9))
    away = np.delete(np.abs(found - expected), 7, axis=1)
    assert away.mean() < 0.6
    one = fit(rng.normal(size=(3, 2)), np.ones((3, 2), bool), places[:3, :2])
    assert one.rows.size == one.columns.size == 1


def test_last_places():
    grid = Grid(24, -149)
    values = np.array([0, 1, 1.5, 2, -3, 1e-44])
    assert grid.last_places(values).tolist() == [-149, -23, -23, -22, -22, -149]

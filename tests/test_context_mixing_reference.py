"""The reference in Python and the compiled kernel give the same bytes."""

import numpy as np
import pytest

from keras_squeeze.codecs import context_mixing_native as kernel
from keras_squeeze.codecs import context_mixing_tables as tables
from keras_squeeze.codecs.context_mixing_coder import Decoder, Encoder
from keras_squeeze.codecs.context_mixing_model import (
    FILTER_MAGNITUDE,
    FILTERED_SIGNS,
    PREDICTED_SIGNS,
    Model,
)
from keras_squeeze.codecs.context_mixing_reference import Scan
from keras_squeeze.codecs.trellis import next_states

needs_kernel = pytest.mark.skipif(
    kernel.kernel() is None, reason="no compiled kernel"
)
SHAPES = [(5, 1, 33, 1), (4, 9, 5, 3), (20, 1, 3, 1), (1, 1, 150, 1)]


def random_values(shape, scale, seed=0):
    random = np.random.default_rng(seed)
    values = np.rint(random.laplace(size=shape) * scale)
    return values.clip(1 - 2**31, 2**31 - 1).astype(np.int32)


def follow_trellis(levels, states, chains):
    machine, now = next_states(states), [0] * chains
    out = np.zeros_like(levels)
    for channel in range(len(levels)):
        chain = channel % chains
        for place in np.ndindex(levels.shape[1:]):
            level = int(levels[channel][place])
            odd = now[chain] & 1
            out[channel][place] = 2 * level - np.sign(level) * odd
            now[chain] = int(machine[now[chain], abs(level) & 1])
    return out


def model_of(values, sign_mode, hole=1, shift=0, states=0, top=False):
    largest = int(np.abs(values.astype(np.int64)).max())
    level = (largest + 1) // 2 if states else largest - hole + 1
    buckets = max(tables.bucket_of(level) + 1, 2)
    if top:
        buckets = tables.bucket_of(level - 1) + 2
    mean_class = min(45, tables.class_count(buckets) - 1)
    top = level if top else 0
    return Model(buckets, mean_class, sign_mode, hole, shift, states, top)


def reference_bytes(model, values, width, states=None):
    coder = Encoder()
    Scan(model, values, width, coder, states).run()
    return coder.finish(), coder.ideal_bits


def check_all_paths(model, values, width, chains=0):
    def states():
        return np.zeros(chains, np.uint8) if chains else None

    data, ideal = reference_bytes(model, values, width, states())
    coder, out = Decoder(data), np.empty_like(values)
    assert Scan(model, out, width, coder, states()).run()
    np.testing.assert_array_equal(out, values)
    assert coder.used_up
    assert 8 * len(data) < 1.001 * ideal + 24
    for portable in (False, True) if kernel.kernel() else ():
        args = width, states(), 0, portable
        assert kernel.encode(model, values, *args) == data
        out = np.empty_like(values)
        args = width, states(), 0, portable
        assert kernel.decode(model, data, out, *args)
        np.testing.assert_array_equal(out, values)


@pytest.mark.parametrize("sign_mode", [0, 1, 2, 3])
@pytest.mark.parametrize("scale", [0.3, 4, 60, 3000, 2e8])
def test_equal_bytes(scale, sign_mode):
    for seed, (*shape, width) in enumerate(SHAPES):
        values = random_values(shape, scale, seed)
        model = model_of(values, sign_mode)
        if sign_mode == FILTERED_SIGNS and model.largest > FILTER_MAGNITUDE:
            continue
        check_all_paths(model, values, width)


@pytest.mark.parametrize("sign_mode", [0, 2, 3])
@pytest.mark.parametrize("states", [4, 32, 256])
def test_equal_bytes_with_a_trellis(states, sign_mode):
    for seed, (*shape, width) in enumerate(SHAPES):
        levels = random_values(shape, 1 + seed, seed)
        values = follow_trellis(levels, states, 3)
        model = model_of(values, sign_mode, states=states)
        check_all_paths(model, values, width, chains=3)


@pytest.mark.parametrize("shift", [0, 5, 200])
def test_equal_bytes_with_a_hole(shift):
    values = random_values((6, 4, 20), 60)
    values[np.abs(values) < 50] = 0
    check_all_paths(model_of(values, 2, 50, shift), values, 2)


@pytest.mark.parametrize("scale", [1, 9, 900])
def test_equal_bytes_with_a_top(scale):
    values = random_values((6, 4, 20), scale)
    limit = 3 * scale
    values = values.clip(-limit, limit)
    for sign_mode in (0, 3):
        check_all_paths(model_of(values, sign_mode, top=True), values, 2)


@pytest.mark.parametrize("scale", [0.2, 30, 1e6])
def test_equal_bytes_of_low_rank(scale):
    random = np.random.default_rng(0)
    left, right = random.normal(size=(24, 3)), random.normal(size=(3, 60))
    values = np.rint(left @ right * scale).astype(np.int32)
    values[5:7] = 0
    for shape, width in (((24, 1, 60), 1), ((24, 6, 10), 3)):
        values = values.reshape(shape)
        check_all_paths(model_of(values, PREDICTED_SIGNS), values, width)


def test_extreme_predictions():
    most = 2**31 - 1
    rows = [[most] * 20, [-most] * 20, [most, -most] * 10, [0] * 20] * 3
    values = np.array(rows, np.int32)
    for shape in ((12, 1, 20), (12, 4, 5)):
        model = Model(120, 4, PREDICTED_SIGNS)
        check_all_paths(model, values.reshape(shape), shape[1] // 2 or 1)


def test_extreme_values():
    values = np.array([2**31 - 1, 1 - 2**31, 0, 1] * 6, np.int32)
    check_all_paths(model_of(values, 1), values.reshape(3, 2, 4), 1)
    zeros = np.zeros((3, 1, 5), np.int32)
    check_all_paths(Model(2, 0, 2), zeros, 1)


def test_inefficiency_is_below_a_thousandth():
    values = random_values((50, 1, 50), 5)
    data, ideal = reference_bytes(model_of(values, 2), values, 1)
    assert abs(8 * len(data) - ideal) < 0.001 * ideal + 8


def test_the_raw_coder_alone():
    random = np.random.default_rng(0)
    chances = [int(p) for p in random.integers(1, 65536, 3000)]
    bits = [int(random.integers(65536) < p) for p in chances]
    values = [int(v) for v in random.integers(0, 1 << 29, 50)]
    encoder = Encoder()
    for chance, bit in zip(chances, bits, strict=True):
        encoder.bit(chance, bit)
    for value in values:
        encoder.raw(value, 29)
    data = encoder.finish()
    decoder = Decoder(data)
    assert [decoder.bit(chance) for chance in chances] == bits
    assert [decoder.raw(0, 29) for _ in values] == values
    assert decoder.used_up
    assert 8 * len(data) < encoder.ideal_bits + 16


def test_carries_run_through_settled_bytes():
    encoder = Encoder()
    # Nearly always the upper part of the interval: all ones, then a carry.
    answers = [0] * 400 + [1, 0] * 40
    for bit in answers:
        encoder.bit(1, bit)
    decoder = Decoder(encoder.finish())
    assert [decoder.bit(1) for _ in answers] == answers


@needs_kernel
def test_the_kernel_refuses_what_no_encoder_writes():
    values = random_values((20, 1, 30), 3)
    model = model_of(values, 2)
    data = kernel.encode(model, values, 1)
    out = np.empty_like(values)
    for wrong in (data + b"\0", data + b"\1", data[:-1], b"", data[:40]):
        assert not kernel.decode(model, wrong, out, 1)
        decoder = Decoder(wrong)
        scan = Scan(model, np.empty_like(values), 1, decoder)
        assert not (scan.run() and decoder.used_up)


@needs_kernel
def test_a_buffer_that_is_too_small_is_made_larger():
    random = np.random.default_rng(0)
    values = random.integers(1 - 2**31, 2**31, (4, 1, 50)).astype(np.int32)
    model = model_of(values, 0)
    data = kernel.encode(model, values, 1)
    assert len(data) > 2 * values.size + 64
    assert data == reference_bytes(model, values, 1)[0]

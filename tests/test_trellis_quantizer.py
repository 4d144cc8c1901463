import numpy as np
import pytest

from keras_squeeze import quantizers
from keras_squeeze.codecs.class_rans import ClassRans
from keras_squeeze.codecs.kernel_geometry import geometry_of, to_canonical
from keras_squeeze.codecs.trellis import STATES, Trellis, next_states
from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.quantizers import (
    RateDistortionQuantizer,
    TrellisQuantizer,
    estimate_bytes,
    trellis_chains,
)
from keras_squeeze.quantizers.rate_distortion_size import codes_and_grids
from keras_squeeze.quantizers.trellis_chains import (
    ChainOrder,
    chain_count,
    follow_machine,
    segments,
)
from keras_squeeze.testing import check_quantizer


def normal(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype(np.float32)


def snr_db(weights, tensor):
    noise = np.square(tensor.dequantize() - weights, dtype=np.float64).sum()
    return 10 * np.log10(np.square(weights, dtype=np.float64).sum() / noise)


@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("bits", [3, 4, 5, 8, 16])
def test_contract(bits, granularity):
    check_quantizer(
        quantizers.get("trellis", bits=bits, granularity=granularity)
    )


@pytest.mark.parametrize("rate_weight", [0.0, 1.0, 30.0])
def test_contract_of_other_arguments(rate_weight):
    check_quantizer(TrellisQuantizer(4, rate_weight=rate_weight))


@pytest.mark.parametrize(
    "shape", [(70, 40), (3, 3, 20, 33), (5, 5, 16, 1), (300,), (40, 1), (1, 1)]
)
@pytest.mark.parametrize("states", [8, 128])
def test_codes_obey_the_machine_in_the_order_of_the_chains(shape, states):
    weights = normal(*shape)
    tensor = TrellisQuantizer(states, step=0.3).encode(weights)
    trellis = tensor.trellis
    geometry = geometry_of(shape, trellis.geometry)
    codes = to_canonical(tensor.codes, geometry)
    for chain in range(min(trellis.chains, geometry.channels)):
        state = 0
        for code in np.abs(codes[chain :: trellis.chains]).reshape(-1):
            grid = state & 1
            assert code == 0 or code % 2 == grid
            state = next_states(states)[state, ((code + grid) >> 1) & 1]


def test_follow_machine_finds_the_grids_of_nonzero_codes():
    tensor = TrellisQuantizer(8, step=0.3).encode(normal(90, 50))
    codes = tensor.codes.T[:, None].astype(np.int32)
    grids = follow_machine(codes, tensor.trellis)
    assert np.array_equal(grids[codes != 0], codes[codes != 0] & 1)
    assert set(grids[codes == 0].tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("states", "gain"), [(8, 1.0), (32, 1.15), (128, 1.25)]
)
def test_granular_gain_at_high_rate(states, gain):
    weights = normal(256, 128)
    scalar = RateDistortionQuantizer(step=0.1).encode(weights)
    ours = TrellisQuantizer(states, step=0.05).encode(weights)
    # 6.02 dB a bit: the gain at the same size.
    bits = 8 * (estimate_bytes(ours) - estimate_bytes(scalar)) / weights.size
    gained = snr_db(weights, ours) - snr_db(weights, scalar) - 6.02 * bits
    assert gained > gain


def test_more_weight_on_bits_gives_fewer_bits_and_more_error():
    weights = normal(64, 64)
    tensors = [
        TrellisQuantizer(8, step=0.4, rate_weight=weight).encode(weights)
        for weight in (0.0, 0.5, 1.0, 3.0)
    ]
    sizes = [estimate_bytes(tensor) for tensor in tensors]
    ratios = [snr_db(weights, tensor) for tensor in tensors]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]
    assert ratios == sorted(ratios, reverse=True) and ratios[0] > ratios[-1]


def test_importance_moves_the_error_away():
    weights = normal(100, 64)
    importance = np.where(np.arange(64) < 32, 1.0, 10.0) * np.ones((100, 1))
    plain = TrellisQuantizer(8, step=0.8)
    error = np.square(plain.encode(weights).dequantize() - weights)
    weighted = plain.encode(weights, importance=importance)
    moved = np.square(weighted.dequantize() - weights)
    assert moved[:, 32:].mean() < 0.9 * error[:, 32:].mean()
    assert moved[:, :32].mean() > 1.1 * error[:, :32].mean()


def test_equal_importance_is_none():
    weights = normal(40, 40)
    plain = TrellisQuantizer(8, step=0.4)
    even = plain.encode(weights, importance=np.full((40, 40), 7.0))
    assert np.array_equal(even.codes, plain.encode(weights).codes)


@pytest.mark.parametrize("bits", [3, 4, 8, 16])
def test_codes_stay_in_range(bits):
    weights = normal(64, 64) ** 3
    tensor = TrellisQuantizer(8, bits=bits).encode(weights)
    largest = 2 ** (bits - 1) - 1
    assert np.abs(tensor.codes.astype(int)).max() <= largest
    assert tensor.bits == bits


def test_codes_of_a_fine_step_take_what_they_need():
    weights = np.linspace(-2.4, 2.4, 900, dtype="f4").reshape(30, 30)
    widths = [
        TrellisQuantizer(8, step=step).encode(weights).bits
        for step in (1.0, 0.1, 0.03, 1e-3, 1e-30)
    ]
    assert widths == [3, 6, 8, 16, 16]


@pytest.mark.parametrize("shape", [(0, 4), (1,), (), (3, 3, 1, 1), (0,)])
def test_tiny_arrays(shape):
    weights = normal(*shape)
    tensor = TrellisQuantizer(8, step=0.01).encode(weights)
    assert tensor.shape == shape
    assert np.abs(tensor.dequantize() - weights).max(initial=0) < 0.05


@pytest.mark.parametrize("value", [0.0, 0.7, -123.0])
def test_constant_arrays(value):
    weights = np.full((40, 36), value, np.float32)
    tensor = TrellisQuantizer(8, step=abs(value) / 20 or 1.0).encode(weights)
    assert np.abs(tensor.dequantize() - weights).max() <= abs(value) / 5


def test_zeros_are_nearly_free():
    weights = np.zeros((3, 3, 64, 64), np.float32)
    weights[..., :8] = normal(3, 3, 64, 8)
    dense = TrellisQuantizer(8, step=0.3).encode(weights[..., :8])
    mostly = TrellisQuantizer(8, step=0.3).encode(weights)
    assert not mostly.codes[..., 8:].any()
    assert estimate_bytes(mostly) < 1.05 * estimate_bytes(dense) + 60


@pytest.mark.parametrize("target", ["fast", "small"])
def test_smooth_outputs_are_scanned_along_them(target):
    smooth = np.cumsum(normal(200, 60), axis=0)
    kinds = [
        TrellisQuantizer(8, step=0.5, target=target)
        .encode(weights)
        .trellis.geometry
        for weights in (smooth, smooth.T, normal(60, 60))
    ]
    assert kinds == ["matrix", "matrix_transposed", "matrix"]


def test_the_fast_coder_scans_the_last_axis_unless_it_pays():
    white = normal(400, 61)
    alike = white[:, 1:] + 0.6 * white[:, :-1]
    kinds = {
        target: TrellisQuantizer(8, step=0.5, target=target)
        .encode(alike)
        .trellis.geometry
        for target in ("fast", "small")
    }
    assert kinds == {"fast": "matrix", "small": "matrix_transposed"}


def test_not_finite_weights_are_named():
    with pytest.raises(NonFiniteError, match=r"layer/kernel"):
        TrellisQuantizer().encode(np.array([np.nan]), name="layer/kernel")


@pytest.mark.parametrize(
    "arguments",
    [
        {"states": 7},
        {"bits": 1},
        {"granularity": "per_group"},
        {"step": 0.0},
        {"step": 1.0, "granularity": "per_channel"},
        {"rate_weight": -1.0},
        {"target": "medium"},
    ],
)
def test_bad_arguments(arguments):
    with pytest.raises(SqueezeError, match=r"Received: "):
        TrellisQuantizer(**arguments)


@pytest.mark.parametrize(
    "importance", [np.ones((3, 4)), -np.ones((4, 3)), np.full((4, 3), np.nan)]
)
def test_bad_importance(importance):
    with pytest.raises(SqueezeError, match=r"importance.*dense/kernel"):
        TrellisQuantizer().encode(
            normal(4, 3), name="dense/kernel", importance=importance
        )


def test_bad_kind():
    with pytest.raises(SqueezeError, match=r"geometry.*Received: kind"):
        TrellisQuantizer().encode(normal(4, 3), kind="convolution")


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (5, 2, 3), (64, 9, 7), (33, 1, 2)]
)
@pytest.mark.parametrize("chains", [1, 4, 32])
def test_chain_order_round_trips(shape, chains):
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    order = ChainOrder(shape, chains)
    laid = order.to_chains(array, padding=-1)
    assert np.array_equal(order.from_chains(laid), array)
    first = array[::chains].reshape(-1)
    assert np.array_equal(laid[: first.size, 0], first)
    assert not (laid[first.size :, 0] != -1).any()


def test_chain_counts_are_powers_of_two():
    counts = {
        shape: chain_count(geometry_of(shape, "matrix"))
        for shape in [(1, 1), (64, 10), (64, 64), (999, 100), (10**6, 3)]
    }
    assert list(counts.values()) == [1, 1, 2, 32, 2]


def test_states_are_those_of_the_machine():
    assert [TrellisQuantizer(s).states for s in STATES] == list(STATES)
    tensor = TrellisQuantizer(16).encode(normal(4, 4))
    assert tensor.trellis == Trellis(16, "matrix", 1)


@pytest.mark.parametrize("bits", [1, 2])
def test_too_few_bits_for_two_grids_are_refused(bits):
    with pytest.raises(SqueezeError, match=f"bits={bits}"):
        TrellisQuantizer(bits=bits)


@pytest.mark.parametrize("channels", [64, 50])
def test_large_tensors_are_searched_in_lots(monkeypatch, rng, channels):
    weights = rng.laplace(size=(300, channels)).astype("float32")
    importance = rng.random(weights.shape) + 0.5
    quantizer = TrellisQuantizer(states=8, step=0.25)
    whole = quantizer.encode(weights, importance=importance)
    grids = codes_and_grids(whole)[1]
    monkeypatch.setattr(trellis_chains, "_SEGMENT", 1 << 12)
    assert np.array_equal(codes_and_grids(whole)[1], grids)
    lots = quantizer.encode(weights, importance=importance)
    trellis = lots.trellis
    geometry = geometry_of(weights.shape, trellis.geometry)
    shape = to_canonical(weights, geometry).shape
    assert len(segments(shape, trellis.chains)) > 3
    # The coder refuses codes that are not of the machine.
    coder = ClassRans(trellis=trellis)
    sizes = [len(coder.encode(t.codes)) for t in (lots, whole)]
    assert sizes[0] < 1.01 * sizes[1]
    error = [
        float(np.sum(importance * (t.dequantize() - weights) ** 2))
        for t in (lots, whole)
    ]
    assert error[0] < 1.01 * error[1]
    assert not np.array_equal(lots.codes, whole.codes)

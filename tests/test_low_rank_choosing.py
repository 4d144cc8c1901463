import math

import numpy as np
import pytest

from keras_squeeze.errors import (
    NonFiniteError,
    SqueezeError,
    UnknownIdentifierError,
)
from keras_squeeze.low_rank import (
    Choice,
    Energy,
    FixedRank,
    KernelInfo,
    RankRule,
    Skip,
    choose,
    decompositions,
)
from keras_squeeze.low_rank.options import squared_errors
from keras_squeeze.low_rank.prices import rank_grid


def low_rank(rows, columns, rank, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
    found = signal + noise * rng.normal(size=(rows, columns))
    return found.astype("float32")


def random_kernel(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def info_of(kernel, **arguments):
    kind = "matrix" if kernel.ndim == 2 else "conv"
    return KernelInfo("net/layer", kernel.shape, kind, **arguments)


def real_error(kernel, choice):
    method = decompositions.get(choice.method)
    product = method.compose(method.decompose(kernel, choice.ranks))
    return np.linalg.norm(product - kernel) / np.linalg.norm(kernel)


@pytest.mark.parametrize("rule", ["vbmf", "gavish_donoho", "marchenko_pastur"])
def test_a_matrix_gets_the_rank_of_its_signal(rule):
    kernel = low_rank(96, 64, 6, noise=0.5)
    choice = choose(info_of(kernel), kernel, rule)
    assert isinstance(choice, Choice)
    assert (choice.method, choice.ranks) == ("svd", (6,))
    assert choice.parameters == choice.macs == 6 * (96 + 64)
    assert choice.parameters_before == choice.macs_before == 96 * 64
    assert choice.saving == pytest.approx(1 - 960 / 6144)
    assert choice.error == pytest.approx(real_error(kernel, choice), rel=1e-4)


@pytest.mark.parametrize("method", ["svd", "channel_svd", "spatial_svd"])
@pytest.mark.parametrize("rank", [1, 5, 8])
def test_the_error_is_the_one_of_the_factors(method, rank):
    shape = (48, 32) if method == "svd" else (3, 3, 16, 24)
    kernel = random_kernel(*shape)
    choice = choose(info_of(kernel), kernel, rank, method=method)
    assert choice.ranks == (rank,)
    assert choice.error == pytest.approx(real_error(kernel, choice), rel=1e-4)


def test_the_error_of_two_ranks_is_a_bound():
    kernel = random_kernel(3, 3, 32, 32)
    choice = choose(info_of(kernel), kernel, FixedRank((9, 12)))
    assert (choice.method, choice.ranks) == ("tucker2", (9, 12))
    assert choice.parameters == 32 * 9 + 9 * 9 * 12 + 12 * 32
    real = real_error(kernel, choice)
    assert real <= choice.error <= math.sqrt(2) * real


@pytest.mark.parametrize(
    ("energy", "strides"), [(0.5, None), (0.9, (2, 2)), (0.99, None)]
)
def test_by_energy_the_cheapest_method_wins_at_the_error_allowed(
    energy, strides
):
    # Low rank between input channels and outputs, the same everywhere.
    mixing = low_rank(24, 32, 4).reshape(1, 1, 24, 32)
    kernel = random_kernel(3, 3, 24, 32, seed=1) * 0.02 + mixing
    info = info_of(kernel, strides=strides)
    chosen = choose(info, kernel, Energy(energy))
    assert real_error(kernel, chosen) ** 2 <= 1 - energy + 1e-6
    for method in ("channel_svd", "spatial_svd", "tucker2"):
        other = choose(info, kernel, Energy(energy), method=method)
        assert isinstance(other, Skip) or other.cost >= chosen.cost


def test_strides_count():
    kernel = random_kernel(3, 3, 16, 16)
    plain = choose(info_of(kernel), kernel, 6, method="spatial_svd")
    strided = info_of(kernel, strides=(2, 2))
    found = choose(strided, kernel, 6, method="spatial_svd")
    assert found.parameters == plain.parameters
    assert found.macs > plain.macs


@pytest.mark.parametrize("rule", [6, 0.25])
def test_a_given_rank_compares_methods_at_equal_cost(rule):
    # Separable: the spatial SVD needs few ranks, the channel SVD all.
    rng = np.random.default_rng(0)
    vertical = rng.normal(size=(5, 1, 24, 2))
    horizontal = rng.normal(size=(1, 5, 2, 24))
    kernel = np.einsum("hxir,ywro->hwio", vertical, horizontal)
    kernel = kernel.astype("float32")
    info = info_of(kernel)
    reference = choose(info, kernel, rule, method="channel_svd")
    chosen = choose(info, kernel, rule)
    assert chosen.method == "spatial_svd"
    assert chosen.error < 1e-3 < reference.error
    assert chosen.cost <= reference.cost


def test_at_equal_cost_the_reference_itself_can_win():
    kernel = low_rank(3 * 3 * 16, 64, 4).reshape(3, 3, 16, 64)
    chosen = choose(info_of(kernel), kernel, 4)
    assert (chosen.method, chosen.ranks) == ("channel_svd", (4,))
    assert chosen.error < 1e-5


def test_cp_has_to_be_asked_for():
    kernel = random_kernel(3, 3, 16, 16)
    methods = {
        choose(info_of(kernel), kernel, rank).method for rank in (2, 4, 8)
    }
    assert "cp" not in methods
    assert choose(info_of(kernel), kernel, 4, method="cp").method == "cp"


def test_an_embedding_saves_parameters_alone():
    kernel = low_rank(500, 32, 4, noise=0.1)
    info = KernelInfo("words", kernel.shape, "embedding")
    choice = choose(info, kernel, "vbmf")
    assert choice.ranks == (4,)
    assert (choice.macs, choice.macs_before) == (4 * 32, 0)
    assert choice.cost == choice.parameters / kernel.size


def test_a_kernel_too_small_to_gain_is_skipped_with_the_numbers():
    kernel = random_kernel(16, 3)
    skip = choose(info_of(kernel), kernel, 3)
    assert isinstance(skip, Skip)
    assert skip.path == "net/layer"
    assert "svd at rank 3 takes 57 parameters instead of 48" in skip.reason
    assert "57 multiply-adds a position instead of 48" in skip.reason


def test_a_rank_above_that_of_the_matrix_is_named():
    kernel = random_kernel(16, 3)
    skip = choose(info_of(kernel), kernel, 64)
    assert skip.reason.startswith("rank 64 is above 3, that of the matrix; ")
    assert "svd at rank 3 takes" in skip.reason


def test_parameters_alone_are_not_enough():
    # Tucker-2 runs its first layer at four times the positions.
    kernel = random_kernel(3, 3, 64, 16)
    info = info_of(kernel, strides=(3, 3))
    skip = choose(info, kernel, FixedRank((15, 8)), method="tucker2")
    assert isinstance(skip, Skip)
    plain = choose(info_of(kernel), kernel, FixedRank((15, 8)))
    assert plain.parameters < plain.parameters_before


def test_min_saving():
    kernel = low_rank(40, 40, 10)
    info = info_of(kernel)
    assert choose(info, kernel, 10, min_saving=0.5).saving == 0.5
    skip = choose(info, kernel, 10, min_saving=0.6)
    assert "a saving of 0.500; wanted 0.6" in skip.reason


def test_what_does_not_apply_is_skipped_with_the_reason():
    kernel = random_kernel(8, 8)
    skip = choose(info_of(kernel), kernel, 2, method="spatial_svd")
    assert isinstance(skip, Skip)
    assert skip.reason.startswith("spatial_svd: ")


@pytest.mark.parametrize("shape", [(40, 60), (3, 3, 16, 16), (5, 8, 24)])
@pytest.mark.parametrize("rule", ["vbmf", Energy(0.9), 1])
def test_a_kernel_of_zeros_has_rank_one_and_no_error(shape, rule):
    kernel = np.zeros(shape, "float32")
    choice = choose(info_of(kernel), kernel, rule)
    assert set(choice.ranks) == {1}
    assert choice.error == 0


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1)])
def test_vectors_are_skipped(shape):
    kernel = random_kernel(*shape)
    assert isinstance(choose(info_of(kernel), kernel, "vbmf"), Skip)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_kernels_that_are_not_finite_are_refused(bad):
    kernel = random_kernel(20, 20)
    kernel[3, 4] = bad
    with pytest.raises(NonFiniteError, match=r"net/layer.*Received"):
        choose(info_of(kernel), kernel, 2)


def test_bad_arguments():
    kernel = random_kernel(20, 20)
    info = info_of(kernel)
    with pytest.raises(SqueezeError, match=r"net/layer.*\(20, 20\).*\(4, 5\)"):
        choose(info, kernel[:4, :5], 2)
    with pytest.raises(SqueezeError, match=r"min_saving.*\[0, 1\).*Received"):
        choose(info, kernel, 2, min_saving=1.0)
    with pytest.raises(UnknownIdentifierError, match="channel_svd"):
        choose(info, kernel, 2, method="svg")
    with pytest.raises(SqueezeError, match="tuple of 1 rank"):
        choose(info, kernel, (2, 3))
    for shape, kind in [((4, 5), "conv"), ((3, 4, 5), "matrix"), ((4, 5), "x")]:
        with pytest.raises(SqueezeError, match=r"where.*kind.*Received"):
            KernelInfo("where", shape, kind)


def test_a_rule_of_ones_own_is_used():
    class Second(RankRule):
        def keep(self, values, rows, columns):
            return 2

    kernel = random_kernel(20, 20)
    assert choose(info_of(kernel), kernel, Second()).ranks == (2,)


def test_rank_grid_keeps_to_what_fits():
    grid = list(rank_grid((300, 200), lambda r: r[0] + 2 * r[1] <= 300))
    assert (1, 1) in grid
    assert (1, 149) in grid
    assert all(first + 2 * last <= 300 for first, last in grid)
    assert len(grid) == len(set(grid)) <= 16 * 16
    assert list(rank_grid((5,), lambda r: False)) == []
    single = [rank for (rank,) in rank_grid((4096,), lambda r: r[0] <= 2000)]
    assert single[:5] == [1, 2, 3, 4, 5]
    assert single[-1] == 2000
    assert len(single) <= 128


def test_squared_errors_end_in_zero():
    (errors,) = squared_errors((np.array([2.0, 1.0, 0.0]),))
    np.testing.assert_allclose(errors, [1.0, 0.2, 0.0, 0.0])
    (errors,) = squared_errors((np.array([1e200, 1e-200]),))
    assert errors.tolist() == [1.0, 0.0, 0.0]

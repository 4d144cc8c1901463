"""What every decomposition must do, as one callable check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.low_rank.bonds import map_factors
from keras_squeeze.low_rank.decompositions import Decomposition
from keras_squeeze.testing.expectations import check_config, expect

_SHAPES = ((12, 8), (5, 4, 6), (3, 3, 6, 8), (2, 3, 2, 3, 4))
# Rounding, as a share of the kernel's norm.
_TOLERANCE = {np.float16: 5e-3, np.float32: 2e-5, np.float64: 1e-8}


def check_decomposition(
    decomposition: Decomposition, shapes: Iterable[tuple[int, ...]] = _SHAPES
) -> None:
    """Checks that a class keeps the contract of `low_rank.Decomposition`.

    At the highest ranks the factors multiply to the kernel; at lower ones the
    error is within what the spectra say; shapes, parameters and multiply-adds
    agree; equal arguments give equal factors of the kernel's dtype, and leave
    the kernel as it is; re-truncated factors are the old ones taken through
    their bonds; projected moments are those of the chain rule; kernels and
    ranks that cannot be had raise `SqueezeError`; the config makes an equal
    object.

    Args:
        decomposition: The `Decomposition` to check.
        shapes: Iterable of shapes of kernels. It has to apply to one at
            least; the others it has to refuse. Defaults to one of a Dense
            kernel, and one each of convolutions in one to three dimensions.

    Raises:
        AssertionError: If the class breaks the contract.

    Example:
    >>> from keras_squeeze import low_rank, testing
    >>> testing.check_decomposition(low_rank.Tucker2())
    """
    check_config(decomposition)
    random = np.random.default_rng(0)
    applied = 0
    for shape in shapes:
        kernel = random.normal(size=shape)
        if decomposition.reason_not_applicable(shape) is not None:
            _refused(decomposition.spectra, kernel)
            continue
        applied += 1
        _check_spectra(decomposition, kernel)
        for dtype in _TOLERANCE:
            _check_factors(decomposition, kernel.astype(dtype))
        _check_retruncation(decomposition, kernel)
        _check_projection(decomposition, kernel)
        _check_refusals(decomposition, kernel)
    expect(applied, f"to apply to one of {tuple(shapes)}", "none")


def _lower(ranks: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((rank + 1) // 2 for rank in ranks)


def _check_spectra(decomposition: Decomposition, kernel: NDArray[Any]) -> None:
    spectra = decomposition.spectra(kernel)
    highest = decomposition.max_ranks(kernel.shape)
    sizes = [min(each) for each in decomposition.unfoldings(kernel.shape)]
    expect(len(highest) == decomposition.rank_count, "all ranks", highest)
    expect(sizes == list(highest), f"ranks up to {sizes}", highest)
    expect([len(s) for s in spectra] == sizes, f"{sizes} values", spectra)
    for values in spectra:
        expect(values.dtype == np.float64, "float64 values", values.dtype)
        expect(bool((np.diff(values) <= 0).all()), "descending", values)
        energy = np.square(values).sum()
        expect(
            np.isclose(energy, np.square(kernel).sum()),
            "squares that sum to the kernel's",
            energy,
        )


def _check_factors(decomposition: Decomposition, kernel: NDArray[Any]) -> None:
    before, shape = kernel.copy(), kernel.shape
    highest = decomposition.max_ranks(shape)
    spectra = decomposition.spectra(kernel)
    norm = np.linalg.norm(kernel.astype(np.float64))
    for ranks in (highest, _lower(highest), (1,) * len(highest)):
        what = f"at ranks {ranks} of a kernel {shape} of {kernel.dtype}"
        factors = decomposition.decompose(kernel, ranks)
        _check_sizes(decomposition, factors, shape, ranks)
        dtypes = {factor.dtype for factor in factors}
        expect(dtypes == {kernel.dtype}, f"the dtype {what}", dtypes)
        again = decomposition.decompose(kernel, ranks)
        expect(_equal(factors, again), f"equal factors {what}", again)
        product = decomposition.compose(factors)
        expect(product.shape == shape, f"its shape {what}", product.shape)
        tails = [
            np.square(values[rank:]).sum()
            for values, rank in zip(spectra, ranks, strict=True)
        ]
        error = np.linalg.norm(product.astype(np.float64) - kernel)
        most = np.sqrt(sum(tails)) + _TOLERANCE[kernel.dtype.type] * norm
        expect(error <= most, f"an error up to {most:.4g} {what}", error)
    expect(np.array_equal(kernel, before), "an untouched kernel", kernel)


def _check_sizes(
    decomposition: Decomposition,
    factors: tuple[NDArray[Any], ...],
    shape: tuple[int, ...],
    ranks: tuple[int, ...],
) -> None:
    found = tuple(factor.shape for factor in factors)
    wanted = decomposition.factor_shapes(shape, ranks)
    expect(found == wanted, f"factors of shapes {wanted}", found)
    expect(
        decomposition.ranks_of(factors) == ranks,
        f"ranks {ranks} of the factors",
        decomposition.ranks_of(factors),
    )
    count = sum(factor.size for factor in factors)
    stored = decomposition.parameters(shape, ranks)
    expect(stored == count, f"{count} parameters", stored)
    macs = decomposition.macs(shape, ranks)
    expect(macs == count, f"{count} multiply-adds", macs)
    strided = decomposition.macs(shape, ranks, (2,) * (len(shape) - 2))
    expect(strided >= macs, "no fewer of them before a stride", strided)


def _check_retruncation(
    decomposition: Decomposition, kernel: NDArray[Any]
) -> None:
    highest = decomposition.max_ranks(kernel.shape)
    ranks = _lower(highest)
    factors = decomposition.decompose(kernel, highest)
    lower, bonds = decomposition.retruncate(factors, ranks)
    _check_sizes(decomposition, lower, kernel.shape, ranks)
    expect(len(bonds) == len(factors) - 1, "a bond between each two", bonds)
    mapped = map_factors(decomposition, factors, bonds)
    close = all(map(np.allclose, mapped, lower))
    expect(close, "the old factors through the bonds", lower)
    same, _ = decomposition.retruncate(factors, highest)
    product = decomposition.compose(same)
    expect(np.allclose(product, kernel), "the kernel at its ranks", product)


def _check_projection(
    decomposition: Decomposition, kernel: NDArray[Any]
) -> None:
    random = np.random.default_rng(1)
    ranks = _lower(decomposition.max_ranks(kernel.shape))
    factors = decomposition.decompose(kernel, ranks)
    for squared in (False, True):
        moment = random.normal(size=kernel.shape) ** (2 if squared else 1)
        found = decomposition.project(moment, factors, squared)
        others = [factor ** (2 if squared else 1) for factor in factors]
        for at, factor in enumerate(factors):
            # The product is linear in each factor: no step is too long.
            step = random.normal(size=factor.shape)
            moved = [*others[:at], step, *others[at + 1 :]]
            slope = np.vdot(moment, decomposition.compose(moved))
            expect(
                np.isclose(np.vdot(found[at], step), slope),
                f"moments of the chain rule (squared: {squared})",
                found[at],
            )


def _check_refusals(decomposition: Decomposition, kernel: NDArray[Any]) -> None:
    shape, highest = kernel.shape, decomposition.max_ranks(kernel.shape)
    above = (*highest[:-1], highest[-1] + 1)
    for ranks in ((0,) * len(highest), above, (*highest, 1)):
        _refused(decomposition.decompose, kernel, ranks)
        _refused(decomposition.factor_shapes, shape, ranks)
    broken = kernel.copy()
    broken.flat[0] = np.nan
    _refused(decomposition.decompose, broken, highest, kind=NonFiniteError)
    lower = decomposition.decompose(kernel, _lower(highest))
    more = tuple(rank + 1 for rank in _lower(highest))
    _refused(decomposition.retruncate, lower, more)
    _refused(decomposition.compose, lower[:-1])


def _refused(
    call: Callable[..., Any],
    *arguments: Any,
    kind: type[SqueezeError] = SqueezeError,
) -> None:
    try:
        call(*arguments)
    except kind as error:
        expect("Received: " in str(error), "what was received", error)
        return
    raise AssertionError(
        f"Expected a {kind.__name__} of `{call.__name__}`. Received: none "
        f"with {arguments}"
    )


def _equal(
    first: tuple[NDArray[Any], ...], second: tuple[NDArray[Any], ...]
) -> bool:
    return all(map(np.array_equal, first, second))

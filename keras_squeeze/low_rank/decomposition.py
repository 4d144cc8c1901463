"""The contract of a decomposition: from a kernel to factors and back."""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.low_rank.contraction import (
    Array,
    contract,
    contract_moment,
    finite,
    in_dtype,
    kernel_shape,
    working,
)
from keras_squeeze.pruning.configured import Configured

Bonds = tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]


class Decomposition(Configured, ABC):
    """Turns a kernel into the kernels of a chain of smaller layers.

    Kernels have the layout of Keras: `(inputs, outputs)` for matrices, and
    for convolutions `(spatial..., input channels, output channels)`. The
    factors are kernels of stock layers, in the order in which these run. A
    *bond* is what joins two of them; its length is a rank.

    Subclasses say by `equation` how the factors multiply to the kernel, by
    `depthwise` which factors are kernels of a depthwise convolution (both
    bonds of such a factor are one axis), and implement the abstract methods.

    Attributes:
        name: String. The name in the registry.
        rank_count: Integer. How many ranks there are to choose.
        equation: String, as `np.einsum` has it: `i` and `o` are the kernel's
            channels, `a` and `b` ranks, `h`, `k` and `w` spatial axes, those
            of a factor taken as one.
        depthwise: Tuple of integers, positions of factors.
    """

    name: ClassVar[str]
    equation: ClassVar[str]
    rank_count: ClassVar[int] = 1
    depthwise: ClassVar[tuple[int, ...]] = ()

    @abstractmethod
    def reason_not_applicable(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
        dilations: tuple[int, ...] | None = None,
    ) -> str | None:
        """Says why a kernel cannot be decomposed this way.

        Args:
            shape: Tuple of integers. The kernel's shape.
            strides: Optional tuple of integers, one a spatial axis. Defaults
                to `None`, all one.
            dilations: Optional tuple of integers, one a spatial axis.
                Defaults to `None`, all one.

        Returns:
            String, part of a sentence; `None` if it can be.
        """

    @abstractmethod
    def unfoldings(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The sizes of the matrices whose singular values `spectra` gives.

        Args:
            shape: Tuple of integers. The kernel's shape.

        Returns:
            Tuple of `(rows, columns)`, one a rank.
        """

    @abstractmethod
    def _shapes(
        self, shape: tuple[int, ...], ranks: tuple[int, ...]
    ) -> tuple[tuple[int, ...], ...]:
        """`factor_shapes` of ranks that were checked."""

    @abstractmethod
    def _spectra(self, kernel: Array) -> tuple[NDArray[np.float64], ...]:
        """`spectra` of a kernel that was checked, float32 or float64."""

    @abstractmethod
    def _decompose(
        self, kernel: Array, ranks: tuple[int, ...], seed: int
    ) -> tuple[Array, ...]:
        """`decompose` of a kernel that was checked, float32 or float64."""

    @abstractmethod
    def _retruncate(
        self, factors: tuple[Array, ...], ranks: tuple[int, ...]
    ) -> tuple[tuple[Array, ...], Bonds]:
        """`retruncate` of factors that were checked, float64."""

    def max_ranks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The ranks at which the factors stand for any kernel exactly.

        Args:
            shape: Tuple of integers. The kernel's shape.

        Returns:
            Tuple of integers, `rank_count` of them.
        """
        return tuple(min(unfolding) for unfolding in self.unfoldings(shape))

    def spectra(self, kernel: NDArray[Any]) -> tuple[NDArray[np.float64], ...]:
        """The singular values that say what each rank costs.

        The squares of those beyond a rank sum to the squared error of the
        kernel at this rank; with two ranks, to a bound of its share.

        Args:
            kernel: Array of finite floating-point weights.

        Returns:
            Tuple of float64 arrays, one a rank, each descending and as long
            as the rank's entry in `max_ranks`.

        Raises:
            SqueezeError: If the decomposition does not apply to the shape.
            NonFiniteError: If a weight is NaN or infinite.
        """
        return self._spectra(self._checked(kernel))

    def decompose(
        self, kernel: NDArray[Any], ranks: Sequence[int] | int, seed: int = 0
    ) -> tuple[NDArray[Any], ...]:
        """Finds factors whose product is near the kernel.

        Equal arguments give equal factors, on one number of threads.

        Args:
            kernel: Array of finite floating-point weights.
            ranks: Sequence of integers, `rank_count` of them, or one integer
                where there is one rank.
            seed: Integer. Of the random matrix that a large kernel is
                multiplied with. Defaults to `0`.

        Returns:
            Tuple of arrays of the kernel's dtype, of the shapes that
            `factor_shapes` says.

        Raises:
            SqueezeError: If the decomposition does not apply to the shape,
                or the ranks are not within `max_ranks`.
            NonFiniteError: If a weight is NaN or infinite.
        """
        checked = self._checked(kernel)
        chosen = self.checked_ranks(checked.shape, ranks)
        factors = self._decompose(checked, chosen, seed)
        return in_dtype(factors, np.asarray(kernel).dtype)

    def compose(self, factors: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Multiplies factors to the kernel they stand for.

        Args:
            factors: Sequence of arrays, as `decompose` returns them.

        Returns:
            Array of the kernel's shape and the factors' dtype.

        Raises:
            SqueezeError: If the factors do not fit each other.
        """
        self.ranks_of(factors)
        wide = [working(factor, "factors") for factor in factors]
        product = contract(self.equation, wide)
        return in_dtype([product], np.asarray(factors[0]).dtype)[0]

    def factor_shapes(
        self, shape: tuple[int, ...], ranks: Sequence[int] | int
    ) -> tuple[tuple[int, ...], ...]:
        """The shapes of the factors.

        Args:
            shape: Tuple of integers. The kernel's shape.
            ranks: Sequence of integers, `rank_count` of them, or one integer
                where there is one rank.

        Returns:
            Tuple of shapes, in the order in which the layers run.

        Raises:
            SqueezeError: If the ranks are not within `max_ranks`.
        """
        return self._shapes(shape, self.checked_ranks(shape, ranks))

    def parameters(
        self, shape: tuple[int, ...], ranks: Sequence[int] | int
    ) -> int:
        """Counts the weights of the factors.

        Args:
            shape: Tuple of integers. The kernel's shape.
            ranks: Sequence of integers, or one integer.

        Returns:
            Integer.

        Raises:
            SqueezeError: If the ranks are not within `max_ranks`.
        """
        return sum(math.prod(each) for each in self.factor_shapes(shape, ranks))

    def macs(
        self,
        shape: tuple[int, ...],
        ranks: Sequence[int] | int,
        strides: tuple[int, ...] | None = None,
    ) -> int:
        """Counts the multiply-adds for one position of the output.

        Args:
            shape: Tuple of integers. The kernel's shape.
            ranks: Sequence of integers, or one integer.
            strides: Optional tuple of integers, one a spatial axis. Defaults
                to `None`, all one.

        Returns:
            Integer. A factor that runs before a stride is counted at every
            position that it runs at.

        Raises:
            SqueezeError: If the ranks are not within `max_ranks`.
        """
        shapes = self.factor_shapes(shape, ranks)
        positions = self._positions(strides or (1,) * (len(shape) - 2))
        pairs = zip(shapes, positions, strict=True)
        return sum(math.prod(each) * count for each, count in pairs)

    def retruncate(
        self, factors: Sequence[NDArray[Any]], ranks: Sequence[int] | int
    ) -> tuple[tuple[NDArray[Any], ...], Bonds]:
        """Lowers the ranks of factors, without the kernel they stand for.

        Args:
            factors: Sequence of arrays, as `decompose` returns them.
            ranks: Sequence of integers, none above the factors' own, or one
                integer where there is one rank.

        Returns:
            Tuple of the new factors, of the dtype of the old, and their
            bonds: a pair of float64 matrices `(P, Q)` a bond, so that the
            factor before it was multiplied by `P` from the right and the
            factor behind it by `Q` from the left.

        Raises:
            SqueezeError: If the factors do not fit each other, or a rank is
                above the one they have.
            NonFiniteError: If a factor holds NaN or infinity.
        """
        current = self.ranks_of(factors)
        chosen = self._integers(ranks)
        if any(n > old for n, old in zip(chosen, current, strict=True)):
            raise SqueezeError(
                f"Expected ranks of at most {current}, those of the factors. "
                f"Received: {chosen}"
            )
        wide = tuple(
            finite(working(factor, "factors"), "a factor").astype(np.float64)
            for factor in factors
        )
        found, bonds = self._retruncate(wide, chosen)
        return in_dtype(found, np.asarray(factors[0]).dtype), bonds

    def project(
        self,
        moment: NDArray[Any],
        factors: Sequence[NDArray[Any]],
        squared: bool = False,
    ) -> tuple[NDArray[Any], ...]:
        """Turns a moment of the kernel's gradient into ones of the factors'.

        Args:
            moment: Array of the kernel's shape: a mean of gradients, or of
                their squares.
            factors: Sequence of arrays, as `decompose` returns them.
            squared: Boolean. Whether it is a mean of squares; the result is
                then what is expected of independent gradients. Defaults to
                `False`.

        Returns:
            Tuple of arrays of the moment's dtype, one of each factor's shape.

        Raises:
            SqueezeError: If the moment or the factors do not fit.
        """
        self.ranks_of(factors)
        moment = np.asarray(moment)
        if moment.shape != kernel_shape(factors):
            raise SqueezeError(
                "Expected a moment of the kernel's shape, "
                f"{kernel_shape(factors)}. Received: shape {moment.shape}"
            )
        found = contract_moment(
            self.equation,
            working(moment, "a moment"),
            [working(factor, "factors") for factor in factors],
            squared,
        )
        return in_dtype(found, moment.dtype)

    def ranks_of(self, factors: Sequence[NDArray[Any]]) -> tuple[int, ...]:
        """Reads the ranks off factors.

        Args:
            factors: Sequence of arrays, as `decompose` returns them.

        Returns:
            Tuple of integers, `rank_count` of them.

        Raises:
            SqueezeError: If the factors do not fit each other.
        """
        shapes = tuple(np.shape(factor) for factor in factors)
        count = self.equation.count(",") + 1
        if len(shapes) == count:
            shape = kernel_shape(factors)
            ranks = tuple(each[-1] for each in shapes[: self.rank_count])
            fits = self.reason_not_applicable(shape) is None
            if fits and shapes == self._shapes(shape, ranks):
                return ranks
        raise SqueezeError(
            f"Expected {count} factors of {self!r} that fit each other. "
            f"Received: shapes {list(shapes)}"
        )

    def checked_ranks(
        self, shape: tuple[int, ...], ranks: Sequence[int] | int
    ) -> tuple[int, ...]:
        """The ranks as a tuple, if a kernel can have them.

        Args:
            shape: Tuple of integers. The kernel's shape.
            ranks: Sequence of integers, or one integer.

        Returns:
            Tuple of integers, `rank_count` of them.

        Raises:
            SqueezeError: If the decomposition does not apply to the shape,
                or the ranks are not within `max_ranks`.
        """
        self._check_shape(shape)
        chosen, highest = self._integers(ranks), self.max_ranks(shape)
        if any(n > most for n, most in zip(chosen, highest, strict=True)):
            raise SqueezeError(
                f"Expected ranks of at most {highest} for {self!r} of a "
                f"kernel of shape {tuple(shape)}. Received: {chosen}"
            )
        return chosen

    def _positions(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        """At how many positions each factor runs for one of the output."""
        return (1,) * (self.equation.count(",") + 1)

    def _integers(self, ranks: Sequence[int] | int) -> tuple[int, ...]:
        found = tuple(ranks) if isinstance(ranks, Iterable) else (ranks,)
        whole = all(isinstance(n, numbers.Integral) for n in found)
        if len(found) != self.rank_count or not whole or min(found) < 1:
            raise SqueezeError(
                f"Expected {self.rank_count} rank(s) for {self!r}, integers "
                f"from 1. Received: {ranks!r}"
            )
        return tuple(int(n) for n in found)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        reason = self.reason_not_applicable(tuple(shape))
        if reason is not None:
            raise SqueezeError(
                f"Expected a kernel that {self!r} applies to; {reason}. "
                f"Received: shape {tuple(shape)}"
            )

    def _checked(self, kernel: NDArray[Any]) -> Array:
        found = working(kernel, "a kernel")
        self._check_shape(found.shape)
        return finite(found, "a kernel")

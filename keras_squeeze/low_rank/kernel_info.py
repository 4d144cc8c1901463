"""What is known of a kernel, and what was decided about it."""

from __future__ import annotations

import dataclasses
import math

from keras_squeeze.errors import SqueezeError

KINDS = ("matrix", "conv", "embedding")


@dataclasses.dataclass(frozen=True)
class KernelInfo:
    """What the choice of method and ranks has to know of a kernel.

    Args:
        path: String. Where the kernel is, for messages and results.
        shape: Tuple of integers. `(inputs, outputs)`, or for a convolution
            `(spatial..., input channels, output channels)`.
        kind: String. `"matrix"`, `"conv"` or `"embedding"`; looking up the
            rows of an embedding costs no multiplications.
        strides: Optional tuple of integers, one a spatial axis. Defaults to
            `None`, all one.
        dilations: Optional tuple of integers, one a spatial axis. Defaults
            to `None`, all one.
        positions: Optional integer. How many positions the output has for one
            sample; a budget in FLOPs needs it.
        itemsize: Integer. Bytes of one weight. Defaults to `4`.
        nonzero: Optional integer. How many weights are not zero, for a kernel
            whose factors must have fewer weights than that. Defaults to
            `None`: fewer than the kernel has.

    Raises:
        SqueezeError: If the kind is unknown, or the shape not one of it.

    Example:
    >>> KernelInfo("hidden", (256, 128), "matrix").size
    32768
    """

    path: str
    shape: tuple[int, ...]
    kind: str
    strides: tuple[int, ...] | None = None
    dilations: tuple[int, ...] | None = None
    positions: int | None = None
    itemsize: int = 4
    nonzero: int | None = None

    def __post_init__(self) -> None:
        is_conv = self.kind == "conv"
        rank_fits = len(self.shape) > 2 if is_conv else len(self.shape) == 2
        if self.kind not in KINDS or not rank_fits:
            raise SqueezeError(
                f"{self.path}: Expected `kind` to be one of {KINDS}, and the "
                "shape to have two dimensions, or more for a convolution. "
                f"Received: kind={self.kind!r}, shape={self.shape}"
            )

    @property
    def size(self) -> int:
        """The number of weights."""
        return math.prod(self.shape)

    @property
    def weights_to_beat(self) -> int:
        """The number of weights that factors must stay below."""
        return self.size if self.nonzero is None else self.nonzero

    @property
    def macs(self) -> int:
        """Multiply-adds for one position of the output."""
        return 0 if self.kind == "embedding" else self.size


@dataclasses.dataclass(frozen=True)
class Choice:
    """How a kernel is to be factorized.

    Args:
        path: String. Where the kernel is.
        method: String. The name of the decomposition.
        ranks: Tuple of integers.
        error: Float. The Frobenius norm of the error over that of the kernel,
            by the singular values; for a method with two ranks an upper
            bound.
        parameters: Integer. The weights of the factors.
        parameters_before: Integer. The weights of the kernel.
        macs: Integer. Multiply-adds of the factors for one position of the
            output.
        macs_before: Integer. Those of the kernel.
    """

    path: str
    method: str
    ranks: tuple[int, ...]
    error: float
    parameters: int
    parameters_before: int
    macs: int
    macs_before: int

    @property
    def saving(self) -> float:
        """The share of the parameters that goes."""
        return 1 - self.parameters / max(1, self.parameters_before)

    @property
    def cost(self) -> float:
        """Parameters plus multiply-adds, each as a share of before."""
        share = self.parameters / max(1, self.parameters_before)
        if not self.macs_before:
            return share
        return share + self.macs / self.macs_before


@dataclasses.dataclass(frozen=True)
class Skip:
    """Why a kernel stays as it is.

    Args:
        path: String. Where the kernel is.
        reason: String.
    """

    path: str
    reason: str

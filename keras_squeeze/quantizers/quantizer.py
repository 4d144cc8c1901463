"""The contract of a quantizer: array in, codes and scales out."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.quantizers.layout import (
    from_canonical,
    group_count,
    normalize_axis,
    to_canonical,
)
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor

GRANULARITIES = ("per_tensor", "per_channel", "per_group")


class Quantizer(abc.ABC):
    """A symmetric uniform grid of integer codes; subclasses choose the scale.

    Codes lie in `[-(2**(bits - 1) - 1), 2**(bits - 1) - 1]`, so `bits=2` is
    ternary, and zero always has the code 0: pruned weights stay pruned. With
    `bits=1` a code is the sign and the scale the mean magnitude; there is no
    zero then, so pruned weights do not survive, but a channel of zeros does
    (its scale is 0).

    A subclass gives an `id` and `choose_scale`.

    Args:
        bits: Integer from 1 to 8, or 16 to store at nearly full precision.
            Defaults to `8`.
        granularity: String. One scale `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer. Number of values that share a scale, for
            `granularity="per_group"` only. Defaults to `None`.

    Raises:
        SqueezeError: If an argument is out of its range.
    """

    id: ClassVar[str]

    def __init__(
        self,
        bits: int = 8,
        granularity: str = "per_channel",
        group_size: int | None = None,
    ) -> None:
        _check_bits(bits)
        _check_granularity(granularity, group_size)
        self.bits = bits
        self.granularity = granularity
        self.group_size = group_size

    @property
    def largest_code(self) -> int:
        """Largest magnitude of a code."""
        return int(max(1, 2 ** (self.bits - 1) - 1))

    @abc.abstractmethod
    def choose_scale(
        self, blocks: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Chooses a scale for each block of values.

        Args:
            blocks: float32 array of shape `(blocks, size)`, short blocks
                padded with zeros at the end.
            counts: int64 array of shape `(blocks,)`: values before padding.

        Returns:
            float32 array of shape `(blocks,)`, 0 for a block of zeros.
        """

    def encode(
        self,
        array: NDArray[Any],
        axis: int | tuple[int, ...] = (),
        name: str = "",
    ) -> QuantizedTensor:
        """Quantizes an array.

        Args:
            array: Array of floats of any shape, finite in float32.
            axis: Integer or tuple. The axes that index the channels; not
                looked at with `granularity="per_tensor"`. Defaults to `()`.
            name: String. Where the array comes from, for the message of an
                error. Defaults to `""`.

        Returns:
            `QuantizedTensor`.

        Raises:
            NonFiniteError: If a value is NaN or infinite.
        """
        values = finite_float32(array, name)
        kept = normalize_axis(axis, values.ndim)
        kept = () if self.granularity == "per_tensor" else kept
        canonical = to_canonical(values, kept)
        blocks, counts = _blocks(canonical, self.group_size)
        scale = self.choose_scale(blocks, counts)
        codes = self._codes(blocks, scale)
        channels, rest = canonical.shape
        codes = codes.reshape(channels, -1)[:, :rest]
        return QuantizedTensor(
            codes=from_canonical(codes, values.shape, kept),
            scale=scale.reshape(channels, -1),
            bits=self.bits,
            axis=kept,
            group_size=self.group_size,
        )

    def _codes(
        self, blocks: NDArray[np.float32], scale: NDArray[np.float32]
    ) -> NDArray[Any]:
        if self.bits == 1:
            return np.where(blocks < 0, -1, 1).astype(np.int8)
        divisor = np.where(scale > 0, scale, np.float32(1))[:, None]
        with np.errstate(over="ignore"):
            steps = np.divide(blocks, divisor)
        np.rint(steps, out=steps)
        np.clip(steps, -self.largest_code, self.largest_code, out=steps)
        return steps.astype(np.int8 if self.bits <= 8 else np.int16)

    def get_config(self) -> dict[str, Any]:
        """The quantizer as JSON-ready values.

        Returns:
            Dictionary with the `id` and the arguments of the constructor.
        """
        return {
            "id": self.id,
            "bits": self.bits,
            "granularity": self.granularity,
            "group_size": self.group_size,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Makes the quantizer of a config.

        Args:
            config: Mapping, as `get_config` returns it.

        Returns:
            A new quantizer.
        """
        return cls(**{key: config[key] for key in config if key != "id"})

    def __repr__(self) -> str:
        arguments = self.get_config().items()
        inside = ", ".join(f"{k}={v!r}" for k, v in arguments if k != "id")
        return f"{type(self).__name__}({inside})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Quantizer)
            and self.get_config() == other.get_config()
        )

    def __hash__(self) -> int:
        return hash(repr(self))


def _check_bits(bits: int) -> None:
    integer = isinstance(bits, int) and not isinstance(bits, bool)
    if not integer or not (1 <= bits <= 8 or bits == 16):
        raise SqueezeError(
            "Expected `bits` to be an integer from 1 to 8, or 16 for storage. "
            f"Received: bits={bits!r}"
        )


def _check_granularity(granularity: str, group_size: int | None) -> None:
    if granularity not in GRANULARITIES:
        raise SqueezeError(
            f"Expected `granularity` to be one of {GRANULARITIES}. "
            f"Received: granularity={granularity!r}"
        )
    if granularity != "per_group" and group_size is not None:
        raise SqueezeError(
            '`group_size` goes with `granularity="per_group"`. Received: '
            f"group_size={group_size!r}, granularity={granularity!r}"
        )
    positive = (
        isinstance(group_size, int)
        and not isinstance(group_size, bool)
        and group_size > 0
    )
    if granularity == "per_group" and not positive:
        raise SqueezeError(
            'Expected a positive integer `group_size` with `granularity="'
            f'per_group"`. Received: group_size={group_size!r}'
        )


def finite_float32(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    """The array as float32, if all of it is finite there.

    Args:
        array: Array of numbers.
        name: String. Where it comes from, for the message of an error.

    Returns:
        float32 array.

    Raises:
        NonFiniteError: If a value is NaN or infinite.
    """
    with np.errstate(over="ignore"):
        values = np.asarray(array).astype(np.float32, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        bad = np.argwhere(~finite)
        raise NonFiniteError(
            f"Expected finite weights in {name or 'the array'} of shape "
            f"{values.shape}. Received: {len(bad)} NaN or infinite values, "
            f"the first at index {tuple(int(i) for i in bad[0])}"
        )
    return values


def _blocks(
    canonical: NDArray[np.float32], group_size: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    channels, rest = canonical.shape
    groups = group_count(rest, group_size)
    size = rest if group_size is None else group_size
    padding = groups * size - rest
    if padding:
        canonical = np.pad(canonical, ((0, 0), (0, padding)))
    counts = np.full((channels, groups), size, np.int64)
    counts[:, -1] -= padding
    return canonical.reshape(channels * groups, size), counts.reshape(-1)

"""The contract of a quantizer: array in, codes and scales out."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.blocks import tiles_of
from keras_squeeze.errors import NonFiniteError
from keras_squeeze.quantizers.blocks import (
    BlockCodes,
    join_blocks,
    split_blocks,
)
from keras_squeeze.quantizers.fixed_codebooks import fixed_codebook
from keras_squeeze.quantizers.granularity import (
    GRANULARITIES,
    UNIFORM_BITS,
    check_bits,
    checked_granularity,
)
from keras_squeeze.quantizers.layout import (
    from_canonical,
    group_count,
    normalize_axis,
    to_canonical,
)
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor

__all__ = ["GRANULARITIES", "Quantizer", "finite_float32", "in_scale_units"]


class Quantizer(abc.ABC):
    """A grid of integer codes; subclasses choose its scale, or its levels.

    The grid is symmetric and uniform unless a subclass says otherwise: codes
    lie in `[-(2**(bits - 1) - 1), 2**(bits - 1) - 1]`, so `bits=2` is
    ternary, and zero always has the code 0: pruned weights stay pruned. With
    `bits=1` a code is the sign and the scale the mean magnitude; there is no
    zero then, so pruned weights do not survive, but a channel of zeros does
    (its scale is 0).

    A subclass gives an `id` and `choose_scale`; one with another grid says so
    by `affine`, `codebook_name` or `learns_codebook`, and `encode_blocks`
    finds its codes.

    Args:
        bits: Integer from 1 to 8, or 16 to store at nearly full precision.
            Defaults to `8`.
        granularity: String. One scale `"per_tensor"` (also `"global"`),
            `"per_channel"` or `"per_group"` (also `"local"`). Defaults to
            `"per_channel"`.
        group_size: Integer. Number of values that share a scale, for
            `granularity="per_group"` only. Defaults to `None`.

    Raises:
        SqueezeError: If an argument is out of its range.
    """

    id: ClassVar[str]
    #: The widths its codes can have.
    supported_bits: ClassVar[tuple[int, ...]] = UNIFORM_BITS
    #: Whether its tensors have a zero point for each scale.
    affine: ClassVar[bool] = False
    #: Whether its tensors carry a codebook of their own.
    learns_codebook: ClassVar[bool] = False
    #: Whether `encode` takes `importance=`, what each squared error weighs.
    takes_importance: ClassVar[bool] = False

    def __init__(
        self,
        bits: int = 8,
        granularity: str = "per_channel",
        group_size: int | None = None,
    ) -> None:
        check_bits(bits, self.supported_bits, self.id)
        self.granularity = checked_granularity(granularity, group_size)
        self.bits = bits
        self.group_size = group_size

    @property
    def largest_code(self) -> int:
        """Largest magnitude of a code of the symmetric grid."""
        return int(max(1, 2 ** (self.bits - 1) - 1))

    @property
    def codebook_name(self) -> str | None:
        """Name of the fixed codebook of its tensors; `None` without one."""
        return None

    def codebook_rows(self, channels: int) -> int:
        """How many learned codebooks a tensor of so many channels has.

        Args:
            channels: Integer.

        Returns:
            Integer: `0`, `1` or `channels`.
        """
        return 1 if self.learns_codebook else 0

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
        return self._encode(finite_float32(array, name), axis, None)

    def _encode(
        self,
        values: NDArray[np.float32],
        axis: int | tuple[int, ...],
        importance: NDArray[np.float32] | None,
    ) -> QuantizedTensor:
        kept = normalize_axis(axis, values.ndim)
        kept = () if self.granularity == "per_tensor" else kept
        canonical = to_canonical(values, kept)
        channels, rest = canonical.shape
        blocks, counts = split_blocks(canonical, self.group_size)
        weights = None
        if importance is not None:
            weights = to_canonical(importance, kept)
            weights = split_blocks(weights, self.group_size)[0]
        found = self.encode_blocks(blocks, counts, weights)
        per_channel = (channels, group_count(rest, self.group_size))
        zero_point = found.zero_point
        if zero_point is not None:
            zero_point = zero_point.reshape(per_channel)
        codes = join_blocks(found.codes, channels, rest)
        return QuantizedTensor(
            codes=from_canonical(codes, values.shape, kept),
            scale=found.scale.reshape(per_channel),
            bits=self.bits,
            axis=kept,
            group_size=self.group_size,
            zero_point=zero_point,
            codebook=self._codebook(),
        )

    def encode_blocks(
        self,
        blocks: NDArray[np.float32],
        counts: NDArray[np.int64],
        importance: NDArray[np.float32] | None = None,
    ) -> BlockCodes:
        """Chooses the scale and the codes of each block.

        Args:
            blocks: float32 array of shape `(blocks, size)`, short blocks
                padded with zeros at the end.
            counts: int64 array of shape `(blocks,)`: values before padding.
            importance: Optional float32 array of the shape of `blocks`, how
                much each squared error counts, for quantizers that can weigh
                them. Defaults to `None`.

        Returns:
            `BlockCodes`.
        """
        scale = self.choose_scale(blocks, counts)
        return BlockCodes(self._codes(blocks, scale), scale)

    def _codebook(self) -> NDArray[np.float32] | None:
        if self.codebook_name is None:
            return None
        return fixed_codebook(self.codebook_name, self.bits)[None]

    def _codes(
        self, blocks: NDArray[np.float32], scale: NDArray[np.float32]
    ) -> NDArray[Any]:
        dtype = np.int8 if self.bits <= 8 else np.int16
        codes = np.empty_like(blocks, dtype)
        for tile in tiles_of(blocks):
            if self.bits == 1:
                codes[tile] = np.where(blocks[tile] < 0, -1, 1)
                continue
            steps = in_scale_units(blocks[tile], scale[tile[0]])
            np.rint(steps, out=steps)
            np.clip(steps, -self.largest_code, self.largest_code, out=steps)
            codes[tile] = steps
        return codes

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


def in_scale_units(
    blocks: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Values over the scale of their block; over 1 where it is 0.

    Args:
        blocks: float32 array of shape `(blocks, size)`.
        scale: float32 array of shape `(blocks,)`.

    Returns:
        float32 array of shape `(blocks, size)`, infinite where a value is
        too large for its scale.
    """
    divisor = np.where(scale > 0, scale, np.float32(1))[:, None]
    with np.errstate(over="ignore"):
        steps: NDArray[np.float32] = np.divide(blocks, divisor)
    return steps

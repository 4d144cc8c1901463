"""Interleaved rANS with static tables chosen by scale classes and neighbours.

Layout, for an array that is not empty:

- if all elements are equal: the byte 128 and their value as a signed varint;
- else the header of `class_rans_header`;
- for each block but the last, a varint: how many 16-bit words it has;
- for each block and each lane that takes part in its first row, a state of 32
  bits, little-endian;
- with a trellis, for each block but the first and each such lane, the state
  of the machine in as many bits as a state has, zeros up to a whole byte;
- the words of all blocks, little-endian.

How lanes and blocks divide the elements says `class_rans_layout`, what a
token stands for `class_rans_alphabet`, which table codes it
`class_rans_contexts`, and how a step goes `class_rans_lanes`. After its last
row every lane of a block must be at `2**16` and every word used.

With a trellis, values are levels: see `trellis`. An array without elements is
no bytes at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_squeeze.codecs import (
    class_rans_blocks,
    class_rans_decoding,
    class_rans_encoding,
    class_rans_native,
    dtypes,
)
from keras_squeeze.codecs.byte_cursor import signed_varint
from keras_squeeze.codecs.class_rans_alphabet import MAX_SPAN
from keras_squeeze.codecs.class_rans_header import CONSTANT
from keras_squeeze.codecs.class_rans_parsing import (
    CODEC_ID,
    ParsedStream,
    parse_stream,
)
from keras_squeeze.codecs.codec import Codec, EncodedItem
from keras_squeeze.codecs.rans import entropy_bits
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.errors import SqueezeError


class ClassRans(Codec):
    """Entropy coding with tables that are known before decoding starts.

    Takes integer arrays (and booleans) whose values span at most 65536. A
    weight's table follows from exponents of its output channel and its input,
    and perhaps from the weight before it; that, and 32 lanes side by side,
    make it small and quick at once. Most damage is noticed, but not all: a
    file that must be trusted needs checksums besides.

    Args:
        trellis: Optional `Trellis`. The array to encode holds codes of
            trellis-coded quantization. Nothing that `decode` needs: a stream
            says it itself. Defaults to `None`.

    Example:
    >>> import numpy as np
    >>> kernel = np.zeros((100, 100), "int8")
    >>> kernel[::10] = 7
    >>> len(ClassRans().encode(kernel)) < 200
    True

    References:
        - Duda, [Asymmetric numeral systems](https://arxiv.org/abs/1311.2540),
          2013.
    """

    id: ClassVar[str] = CODEC_ID

    def __init__(self, trellis: Trellis | None = None) -> None:
        self.trellis = trellis

    def supports(self, array: np.ndarray) -> bool:
        """Whether these are integers that span at most 65536 values."""
        if not dtypes.is_supported(array.dtype):
            return False
        if not dtypes.is_integer(array.dtype):
            return False
        if array.size == 0:
            return True
        return int(array.max()) - int(array.min()) < MAX_SPAN

    def size_hint(self, array: np.ndarray) -> int:
        """A third of the order-0 entropy: contexts may save that much."""
        if array.size == 0:
            return 0
        counts = class_rans_encoding.count_relative(dtypes.flat_native(array))
        return int(entropy_bits(counts) / 24)

    def encode(self, array: np.ndarray) -> bytes:
        """Codes the array; see `Codec.encode`."""
        self.require_support(array)
        if array.size == 0:
            return b""
        low = int(array.min())
        if low == int(array.max()):
            return bytes([CONSTANT]) + signed_varint(low)
        return class_rans_encoding.encode(array, self.trellis)

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Decodes one array; see `Codec.decode`."""
        return self.decode_many([(data, shape, dtype)])[0]

    def decode_many(self, items: Sequence[EncodedItem]) -> list[np.ndarray]:
        """Decodes all arrays at once; see `Codec.decode_many`."""
        return self._decode_parsed([self.parse(*item) for item in items])

    def _decode_parsed(
        self, parsed: Sequence[ParsedStream]
    ) -> list[np.ndarray]:
        coded = [p for p in parsed if p.stream is not None]
        if class_rans_native.available():
            arrays = iter(class_rans_decoding.decode_native(coded))
        else:
            arrays = iter(class_rans_decoding.decode_reference(coded))
        return [
            next(arrays)
            if p.stream is not None
            else np.full(p.shape, p.origin, p.dtype)
            for p in parsed
        ]

    @property
    def decodes_scaled(self) -> bool:
        """Whether there are compiled kernels, which multiply as they go."""
        return class_rans_native.available()

    def decode_scaled(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
        scale: np.ndarray | float,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Decodes straight to float32 and multiplies.

        Args:
            data: Bytes that `encode` made.
            shape: Sequence of integers, the declared shape.
            dtype: The declared dtype of the integers.
            scale: float32 scalar, or array that broadcasts to the shape,
                such as one scale for each position of the last axis.
            out: Optional C-contiguous float32 array of that shape, to be
                written and returned; whoever decodes many tensors of one
                size spares fresh memory for each. What it holds after an
                error is undefined. Defaults to `None`, a new array.

        Returns:
            A C-contiguous float32 array: each integer as float32, times its
            scale.

        Raises:
            CorruptArtifactError: If the bytes are damaged.
            SqueezeError: If `out` is no such array.
        """
        factors = np.asarray(scale, np.float32)
        parsed = self.parse(data, shape, dtype)
        if out is not None:
            _check_out(out, parsed.shape)
        scaled = class_rans_decoding.decode_scaled(parsed, factors, out)
        if scaled is not None:
            return scaled
        integers = self._decode_parsed([parsed])[0]
        if out is None:
            out = np.empty(parsed.shape, np.float32)
        # As float32 before the product, not after it.
        out[...] = integers
        out *= factors
        return out

    def count_blocks(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> int:
        """How many blocks there are that `decode_block` can decode.

        Args:
            data: Bytes that `encode` made.
            shape: Sequence of integers, the declared shape.
            dtype: The declared dtype.

        Returns:
            Integer; a block is about 65536 elements.

        Raises:
            CorruptArtifactError: If the bytes are damaged.
        """
        return class_rans_blocks.count_blocks(self.parse(data, shape, dtype))

    def decode_block(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
        block: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Decodes a part of the array without decoding the rest.

        Args:
            data: Bytes that `encode` made.
            shape: Sequence of integers, the declared shape.
            dtype: The declared dtype.
            block: Integer, less than `count_blocks` says.

        Returns:
            Two arrays: where the elements of the block are in the flattened
            array, and what they are.

        Raises:
            CorruptArtifactError: If the bytes are damaged.
            SqueezeError: If there is no such block.

        Example:
        >>> import numpy as np
        >>> weights = np.arange(12, dtype="int8").reshape(3, 4)
        >>> codec = ClassRans()
        >>> data = codec.encode(weights)
        >>> places, values = codec.decode_block(data, (3, 4), "int8", 0)
        >>> bool((weights.reshape(-1)[places] == values).all())
        True
        """
        parsed = self.parse(data, shape, dtype)
        return class_rans_blocks.decode_block(parsed, block)

    def parse(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> ParsedStream:
        """Reads and checks all that comes before the words.

        Args:
            data: Bytes nobody vouches for.
            shape: Sequence of integers, the declared shape.
            dtype: The declared dtype.

        Returns:
            `ParsedStream`.

        Raises:
            CorruptArtifactError: If the bytes are damaged.
        """
        return parse_stream(data, shape, dtype)


def _check_out(out: np.ndarray, shape: tuple[int, ...]) -> None:
    right = out.shape == shape and out.dtype == np.float32
    if not (right and out.flags.c_contiguous and out.flags.writeable):
        raise SqueezeError(
            f"Expected `out` to be a writable C-contiguous float32 array of "
            f"shape {shape}. Received: shape={out.shape}, dtype={out.dtype}"
        )

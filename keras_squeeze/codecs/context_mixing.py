"""Context mixing for integers: the smallest streams, coded bit by bit.

A stream is a header, as `context_mixing_header` describes it, and one range
coded block for every million elements or so, as `context_mixing_reference`
does. An array without elements is no bytes at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from keras_squeeze.codecs import context_mixing_fit as fit
from keras_squeeze.codecs import context_mixing_header as headers
from keras_squeeze.codecs import context_mixing_native as kernel
from keras_squeeze.codecs import dtypes, kernel_geometry
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.codec import Codec, EncodedItem, describe
from keras_squeeze.codecs.context_mixing_coder import Decoder, Encoder
from keras_squeeze.codecs.context_mixing_header import Header
from keras_squeeze.codecs.context_mixing_reference import Scan
from keras_squeeze.codecs.threads import map_threads
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.errors import CorruptArtifactError

# Below this many elements threads cost more than they save.
_THREADED = 1 << 15
# The reference tries choices only on arrays that it codes within a second.
_TRIED_SLOWLY = 1 << 9

# No element costs less than the surest answer to one question.
_MOST_PER_BYTE = 1 << 18

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True, eq=False)
class _Parsed:
    """A header that has been checked, and where its blocks are decoded to."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    header: Header
    blocks: list[tuple[range, memoryview, bytes]]
    canonical: np.ndarray


class ContextMixing(Codec):
    """Adaptive range coding with mixed contexts: a few percent smaller.

    Takes integer arrays (and booleans) whose values span less than `2**31`.
    Models the scales of channels, inputs and taps, the resemblance of
    neighbours, and zeros of pruned weights; codes the levels of a trellis.
    Decodes some million elements a second where a compiler was there when the
    package was installed, and some ten thousand where not.

    Args:
        trellis: Optional `Trellis`. The state machine that made the codes; all
            arrays that are encoded must come from it. A stream says all of it,
            so decoding does not need it.
        kinds: Optional sequence of strings, the geometries of
            `kernel_geometry.KINDS` that `encode` tries. Defaults to all that
            are plausible for a shape.

    Example:
    >>> import numpy as np
    >>> codes = np.zeros((40, 50), "int8")
    >>> codes[::10] = 7
    >>> data = ContextMixing().encode(codes)
    >>> len(data) < 40
    True
    >>> int(ContextMixing().decode(data, codes.shape, "int8").sum())
    1400

    References:
        - Mahoney, [Adaptive weighing of context models for lossless data
          compression](https://cs.fit.edu/~mmahoney/compression/), 2005.
    """

    id: ClassVar[str] = "context_mixing"

    def __init__(
        self,
        trellis: Trellis | None = None,
        kinds: Sequence[str] | None = None,
    ) -> None:
        self._trellis = trellis
        self._kinds = kinds

    @property
    def is_fast(self) -> bool:
        """Whether the compiled kernel is there."""
        return kernel.kernel() is not None

    def supports(self, array: np.ndarray) -> bool:
        """Whether these are integers that span less than `2**31`."""
        if not dtypes.is_supported(array.dtype):
            return False
        if not dtypes.is_integer(array.dtype):
            return False
        if array.size == 0:
            return True
        return int(array.max()) - int(array.min()) < 1 << 31

    def encode(self, array: np.ndarray) -> bytes:
        """Codes the elements in the order of a kernel's geometry."""
        self.require_support(array)
        if array.size == 0:
            return b""
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.min() == array.max():
            # A constant says nothing about a trellis, and needs none.
            return headers.constant(int(array.flat[0]))
        if array.dtype.kind == "b":
            array = array.view(np.uint8)
        if self.is_fast or array.size <= _TRIED_SLOWLY:
            return fit.best_stream(array, self._trellis, self._kinds, _encode)
        return _encode(array, fit.fixed_header(array, self._trellis))

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Decodes one array; see `Codec.decode`."""
        return self.decode_many([(data, shape, dtype)])[0]

    def decode_many(self, items: Sequence[EncodedItem]) -> list[np.ndarray]:
        """Decodes the blocks of all arrays in threads."""
        parsed = [self._parse(*item) for item in items]
        jobs = [
            (one, index)
            for one in parsed
            if isinstance(one, _Parsed)
            for index in range(len(one.blocks))
        ]
        size = sum(one.canonical.size for one, index in jobs if index == 0)
        _each(lambda job: _decode_block(*job), jobs, size)
        return [
            _finish(one) if isinstance(one, _Parsed) else one for one in parsed
        ]

    def kind_of(
        self, data: bytes | bytearray | memoryview, shape: Sequence[int]
    ) -> str | None:
        """The geometry that a stream is coded in, the best of those tried.

        Args:
            data: Bytes that `encode` made.
            shape: Sequence of integers, the declared shape.

        Returns:
            String, `None` for an array that is constant or empty.

        Raises:
            CorruptArtifactError: If the bytes have no legal header.
        """
        cursor = ByteCursor(data, self.id)
        header = headers.read(cursor, shape) if cursor.remaining else 0
        return header.geometry.kind if isinstance(header, Header) else None

    def trellis_of(
        self, data: bytes | bytearray | memoryview, shape: Sequence[int]
    ) -> Trellis | None:
        """The trellis that a stream follows.

        Args:
            data: Bytes that `encode` made.
            shape: Sequence of integers, the declared shape.

        Returns:
            `Trellis`, or `None` where the stream follows none.

        Raises:
            CorruptArtifactError: If the bytes have no legal header.
        """
        cursor = ByteCursor(data, self.id)
        header = headers.read(cursor, shape) if cursor.remaining else 0
        return header.trellis if isinstance(header, Header) else None

    def _parse(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> _Parsed | np.ndarray:
        dtype = dtypes.dtype_from_name(dtype)
        count = dtypes.element_count(shape, dtype)
        shape = tuple(shape)
        cursor = ByteCursor(data, self.id)
        if not dtypes.is_integer(dtype):
            raise cursor.fail("an integer dtype", dtype.name)
        if count == 0:
            cursor.finish()
            return np.zeros(shape, dtype)
        header = headers.read(cursor, shape)
        if isinstance(header, int):
            cursor.finish()
            _require_range(header, header, dtype, shape)
            return np.full(shape, header, dtype)
        blocks = headers.read_blocks(cursor, header)
        self._require_bytes(cursor, header, blocks)
        geometry = header.geometry
        size = geometry.channels, geometry.taps, geometry.inputs
        canonical = np.empty(size, np.int32)
        return _Parsed(shape, dtype, header, blocks, canonical)

    def _require_bytes(
        self,
        cursor: ByteCursor,
        header: Header,
        blocks: Sequence[tuple[range, memoryview, bytes]],
    ) -> None:
        # Checked before memory is taken for what the bytes cannot hold.
        each = header.geometry.taps * header.geometry.inputs
        for channels, data, _ in blocks:
            most = _MOST_PER_BYTE * (len(data) + 8)
            if len(channels) * each > most:
                raise cursor.fail(
                    f"at most {most} elements in {len(data)} bytes",
                    len(channels) * each,
                )


def _encode(array: np.ndarray, header: Header) -> bytes:
    geometry, trellis = header.geometry, header.trellis
    canonical = kernel_geometry.to_canonical(
        fit.centred(array, header.centre), geometry
    )
    blocks = headers.block_channels(geometry)
    if trellis is None:
        data = _each(
            lambda channels: _encode_block(header, canonical, channels, None),
            blocks,
            array.size,
        )
        return headers.write(header, data, []) + b"".join(data)
    states = np.zeros(min(trellis.chains, geometry.channels), np.uint8)
    starts = []
    data = []
    # A block starts where the chains are after the one before.
    for channels in blocks:
        starts.append(states.tobytes())
        data.append(_encode_block(header, canonical, channels, states))
    return headers.write(header, data, starts) + b"".join(data)


def _encode_block(
    header: Header,
    canonical: np.ndarray,
    channels: range,
    states: np.ndarray | None,
) -> bytes:
    model, width = header.model, header.geometry.width
    part = canonical[channels.start : channels.stop]
    part = np.ascontiguousarray(part, np.int32)
    if kernel.kernel() is not None:
        return kernel.encode(model, part, width, states, channels.start)
    coder = Encoder()
    Scan(model, part, width, coder, states, channels.start).run()
    return coder.finish()


def _decode_block(one: _Parsed, index: int) -> None:
    channels, data, first_states = one.blocks[index]
    header = one.header
    out = one.canonical[channels.start : channels.stop]
    states = None
    if header.trellis is not None:
        states = np.frombuffer(first_states, np.uint8).copy()
    width, first = header.geometry.width, channels.start
    if kernel.kernel() is not None:
        good = kernel.decode(header.model, data, out, width, states, first)
    else:
        coder = Decoder(data)
        scan = Scan(header.model, out, width, coder, states, first)
        good = scan.run() and coder.used_up
    if not good:
        raise CorruptArtifactError(
            describe(
                ContextMixing.id,
                "a block that ends where its range coder does",
                f"{len(data)} bytes",
                one.shape,
            )
        )


def _finish(one: _Parsed) -> np.ndarray:
    centre, values = one.header.centre, one.canonical
    low, high = int(values.min()) + centre, int(values.max()) + centre
    _require_range(low, high, one.dtype, one.shape)
    geometry = one.header.geometry
    if centre:
        values = fit.centred(values, -centre)
    if one.dtype.kind == "b":
        values = values != 0
    return kernel_geometry.from_canonical(
        values.astype(one.dtype, copy=False), geometry, one.shape
    )


def _require_range(
    low: int, high: int, dtype: np.dtype[Any], shape: Sequence[int]
) -> None:
    least, most = dtypes.integer_range(dtype)
    if low < least or high > most:
        raise CorruptArtifactError(
            describe(
                ContextMixing.id,
                f"values in {least}..{most}",
                f"values in {low}..{high}",
                tuple(shape),
            )
        )


def _each(
    function: Callable[[_T], _R], items: Sequence[_T], size: int
) -> list[_R]:
    """Calls the function for all items, in threads where that is faster."""
    one = size < _THREADED or kernel.kernel() is None
    return map_threads(function, items, 1 if one else None)

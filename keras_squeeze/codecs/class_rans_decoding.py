"""From parsed streams of `class_rans` to arrays: by kernels or in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_squeeze.codecs import class_rans_layout, class_rans_native
from keras_squeeze.codecs.class_rans_alphabet import MAX_SPAN
from keras_squeeze.codecs.class_rans_context_lanes import ContextBatch
from keras_squeeze.codecs.class_rans_lanes import Batch, LaneStream
from keras_squeeze.codecs.class_rans_layout import Layout
from keras_squeeze.codecs.class_rans_parsing import CODEC_ID, ParsedStream
from keras_squeeze.codecs.codec import describe
from keras_squeeze.errors import CorruptArtifactError

_MOST_CHANNELS = 256
_LINE_FLOATS = 16


def decode_reference(coded: Sequence[ParsedStream]) -> list[np.ndarray]:
    """Decodes streams in NumPy, all of them at once.

    Args:
        coded: Sequence of `ParsedStream`, none without a stream.

    Returns:
        The arrays.

    Raises:
        CorruptArtifactError: If a stream is damaged.
    """
    streams = [p.stream for p in coded if p.stream is not None]
    decoded = decode_blocks(streams)
    return [
        _finish(p, p.stream, *result)
        for p, result in zip(coded, decoded, strict=True)
        if p.stream is not None
    ]


def decode_native(
    coded: Sequence[ParsedStream], isa: str | None = None
) -> list[np.ndarray]:
    """Decodes streams by the compiled kernels, on all cores.

    Args:
        coded: Sequence of `ParsedStream`, none without a stream.
        isa: Optional string, one of `class_rans_native.ISAS`. Defaults to the
            fastest one.

    Returns:
        The arrays.

    Raises:
        CorruptArtifactError: If a stream is damaged.
    """
    streams = [p.stream for p in coded if p.stream is not None]
    decoded = class_rans_native.decode(
        streams, [p.dtype for p in coded], [p.origin for p in coded], isa
    )
    arrays = []
    for parsed, stream, matrix in zip(coded, streams, decoded, strict=True):
        if matrix is None:
            raise _damaged(parsed.shape)
        array = class_rans_layout.from_matrix(
            matrix, stream.layout, parsed.shape
        )
        if parsed.dtype.itemsize == 8:
            array = _add_origin(array, parsed.origin, parsed.dtype)
        arrays.append(array)
    return arrays


def _channel_scales(
    parsed: ParsedStream, layout: Layout, scale: np.ndarray
) -> np.ndarray | None:
    """One scale a channel of the layout, if they belong to channels."""
    if parsed.dtype.itemsize == 8 and abs(parsed.origin) > MAX_SPAN:
        return None
    if parsed.dtype.kind == "u" and parsed.dtype.itemsize == 4:
        return None
    if layout.channels > _MOST_CHANNELS and layout.channels % _LINE_FLOATS:
        # Rows far apart, of no whole lines of the cache: the kernel's stores
        # cost more than a second pass.
        return None
    if scale.size == 1:
        return np.full(layout.channels, scale.reshape(-1)[0], np.float32)
    last = scale.shape[-1]
    is_row = scale.size == last == layout.channels == parsed.shape[-1]
    # A flat layout's channels are the last axis only if that is all lanes.
    owned = class_rans_layout.is_channels_last(layout) and is_row
    return np.ascontiguousarray(scale.reshape(-1)) if owned else None


def decode_scaled(
    parsed: ParsedStream, scale: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray | None:
    """Decodes a stream to float32 and multiplies, in one go.

    Args:
        parsed: `ParsedStream`.
        scale: float32 array.
        out: Optional C-contiguous float32 array of the stream's shape, to be
            written and returned. Defaults to `None`, a new one.

    Returns:
        The float32 array, or `None` if that needs two steps.

    Raises:
        CorruptArtifactError: If the stream is damaged.
    """
    stream = parsed.stream
    if stream is None or not class_rans_native.available():
        return None
    scales = _channel_scales(parsed, stream.layout, scale)
    if scales is None:
        return None
    own = out is not None and class_rans_layout.is_matrix(stream.layout)
    matrix = class_rans_native.decode_float(
        stream, parsed.origin, scales, out=out if own else None
    )
    if matrix is None:
        raise _damaged(parsed.shape)
    array = class_rans_layout.from_matrix(matrix, stream.layout, parsed.shape)
    if out is None:
        return array
    if not own:
        out[...] = array
    return out


def decode_one_block(
    parsed: ParsedStream, stream: LaneStream, block: int
) -> np.ndarray:
    """Decodes one block of a stream.

    Args:
        parsed: `ParsedStream`.
        stream: Its `LaneStream`.
        block: Integer, the number of the block.

    Returns:
        Matrix of shape `(positions, channels)`. Only the cells that the block
        holds mean anything.

    Raises:
        CorruptArtifactError: If the block is damaged.
    """
    if class_rans_native.available():
        decoded = class_rans_native.decode(
            [stream], [parsed.dtype], [parsed.origin], only=block
        )
        matrix, origin = decoded[0], 0
        if parsed.dtype.itemsize == 8:
            origin = parsed.origin
    else:
        batch = ContextBatch if _batch_of(stream) else Batch
        rows, whole = batch([stream], block).run()[0]
        matrix, origin = None, parsed.origin
        if whole:
            matrix = class_rans_layout.from_rows(rows, stream.layout)
    if matrix is None:
        raise _damaged(parsed.shape)
    return _add_origin(matrix, origin, parsed.dtype)


def _finish(
    parsed: ParsedStream, stream: LaneStream, rows: np.ndarray, whole: bool
) -> np.ndarray:
    if not whole:
        raise _damaged(parsed.shape)
    matrix = class_rans_layout.from_rows(rows, stream.layout)
    values = class_rans_layout.from_matrix(matrix, stream.layout, parsed.shape)
    return _add_origin(values, parsed.origin, parsed.dtype)


def _add_origin(
    values: np.ndarray, origin: int, dtype: np.dtype[Any]
) -> np.ndarray:
    """Adds an integer, in the arithmetic of the dtype, which wraps around."""
    if dtype.kind == "b":
        return (values + origin).astype(dtype)
    out = values.astype(dtype)
    wrapped = np.array(origin & ((1 << 8 * dtype.itemsize) - 1), np.uint64)
    out += wrapped.astype(f"u{dtype.itemsize}").astype(dtype)
    return out


def _damaged(shape: Sequence[int]) -> CorruptArtifactError:
    """The error of a stream whose lanes do not end as they should."""
    return CorruptArtifactError(
        describe(
            CODEC_ID,
            "all words used and every lane back at its start",
            "a stream that does not end so",
            tuple(shape),
        )
    )


def decode_blocks(
    streams: Sequence[LaneStream],
) -> list[tuple[np.ndarray, bool]]:
    """Decodes all blocks of all streams side by side.

    Args:
        streams: Sequence of `LaneStream`.

    Returns:
        For each stream its values, an integer array of shape `(rows, lanes)`
        (tokens, if `is_plain`; levels of a trellis already turned to codes),
        and whether all words were used and every lane ended at `2**16`.
        Damaged streams give some values and `False`.
    """
    batches: dict[int, list[int]] = {}
    for index, stream in enumerate(streams):
        batches.setdefault(_batch_of(stream), []).append(index)
    out: dict[int, tuple[np.ndarray, bool]] = {}
    for kind, indices in batches.items():
        batch = ContextBatch if kind else Batch
        results = batch([streams[i] for i in indices]).run()
        out.update(zip(indices, results, strict=True))
    return [out[i] for i in range(len(streams))]


def _batch_of(stream: LaneStream) -> int:
    """Streams of the same number are decoded together.

    What looks at neighbours keeps all values of all lanes, for as many rows
    as the longest block has: only blocks of about one length may share that.
    """
    if stream.is_plain:
        return 0
    if stream.contexts.neighbour is None:
        return 1
    return 1 + stream.rows_of(0).bit_length()

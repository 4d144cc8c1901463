"""Decoding one block of a `class_rans` stream alone, for slices of a tensor."""

from __future__ import annotations

import numpy as np

from keras_squeeze.codecs import class_rans_decoding, class_rans_layout
from keras_squeeze.codecs.class_rans_layout import Layout
from keras_squeeze.codecs.class_rans_parsing import ParsedStream
from keras_squeeze.errors import SqueezeError


def count_blocks(parsed: ParsedStream) -> int:
    """How many blocks a stream has: one, if all elements are equal.

    Args:
        parsed: `ParsedStream`.

    Returns:
        Integer, 0 for an array without elements.
    """
    if parsed.stream is not None:
        return len(parsed.stream.states)
    return int(0 not in parsed.shape)


def decode_block(
    parsed: ParsedStream, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes one block.

    Args:
        parsed: `ParsedStream`.
        block: Integer, the number of the block.

    Returns:
        Where its elements are in the flattened array, int64, and what they
        are, in the order in which they are coded.

    Raises:
        CorruptArtifactError: If the block is damaged.
        SqueezeError: If there is no such block.
    """
    count = count_blocks(parsed)
    if not 0 <= block < count:
        raise SqueezeError(
            f"Expected the number of one of {count} blocks. Received: {block}"
        )
    stream = parsed.stream
    if stream is None:
        size = int(np.prod(parsed.shape, dtype=np.int64))
        return np.arange(size), np.full(size, parsed.origin, parsed.dtype)
    matrix = class_rans_decoding.decode_one_block(parsed, stream, block)
    position, channel = _cells(stream.layout, stream.block_rows, block)
    places = _places(stream.layout, position, channel)
    return places, matrix[position, channel]


def _cells(
    layout: Layout, block_rows: int, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """The position and the channel of each element of a block."""
    first = block * block_rows
    rows = np.arange(first, min(first + block_rows, layout.rows))[:, None]
    lanes = np.arange(layout.lanes)
    if layout.view == "flat":
        position, channel = np.broadcast_arrays(rows, lanes)
        there = rows * layout.lanes + lanes < layout.count
    else:
        groups = rows // layout.positions * layout.lanes + lanes
        position, channel = np.broadcast_arrays(rows % layout.positions, groups)
        there = channel < layout.channels
    return position[there], channel[there]


def _places(
    layout: Layout, position: np.ndarray, channel: np.ndarray
) -> np.ndarray:
    """Where in the flattened array the cells of the matrix are."""
    if class_rans_layout.is_channels_last(layout):
        places: np.ndarray = position * layout.channels + channel
        return places
    tap, of_input = np.divmod(position, layout.inputs)
    out: np.ndarray = tap * layout.channels + channel
    return out * layout.inputs + of_input

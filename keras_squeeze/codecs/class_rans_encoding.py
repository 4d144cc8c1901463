"""From an array to a stream of `class_rans`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import (
    bits,
    class_rans_contexts,
    class_rans_layout,
    class_rans_native,
    class_rans_search,
    dtypes,
)
from keras_squeeze.codecs.bitpack import subtract_offset
from keras_squeeze.codecs.blocks import blocks, tiles
from keras_squeeze.codecs.byte_cursor import varint
from keras_squeeze.codecs.class_rans_alphabet import (
    Tokens,
    covering,
    fit_tokens,
)
from keras_squeeze.codecs.class_rans_choice import Choice, Machines, judged
from keras_squeeze.codecs.class_rans_contexts import MAX_MAGNITUDE
from keras_squeeze.codecs.class_rans_fitting import (
    FittedTables,
    fit_tables,
    has_rare_tokens,
    name_tables,
)
from keras_squeeze.codecs.class_rans_header import (
    USUAL_BLOCK_ROWS,
    write_header,
)
from keras_squeeze.codecs.class_rans_layout import Layout
from keras_squeeze.codecs.class_rans_native_steps import NativeElements
from keras_squeeze.codecs.class_rans_steps import Elements, EscapeCoding
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.errors import SqueezeError

# Of the 32 bits of a lane's state about 24 are wasted.
_WASTE_BITS = 24
_LANE_WASTE = 0.003
_BLOCK_WASTE = 0.002
_BLOCK_ROWS = (2048, 4096, 8192, 16384, 32768, 65536)
# Flat streams are as small as others if no context is used, and fill all
# lanes; but only channels can have a scale each.
_MANY_CHANNELS = 256
# Smaller tensors are worth trying more than one choice.
_TRIED_ELEMENTS = 1 << 20
# Estimates are seldom farther off than this.
_WORTH_TRYING, _WORTH_BITS = 1.02, 96
_NATURAL_DTYPES = ("int8", "uint8", "int16", "int32")


def count_relative(flat: np.ndarray) -> np.ndarray:
    """How often each value occurs, from the least to the greatest; int64."""
    low, high = int(flat.min()), int(flat.max())
    counts = np.zeros(high - low + 1, np.int64)
    for block in blocks(flat.size):
        relative = subtract_offset(flat[block], low).astype(np.int64)
        counts += np.bincount(relative, minlength=counts.size)
    return counts


@dataclass(frozen=True, slots=True, eq=False)
class _Tensor:
    """An array on its way.

    Args:
        array: The elements, or what they have above `origin`, in a dtype that
            the kernels read; codes, with a trellis.
        low: Integer. The least value, or level.
        high: Integer. The greatest value, or level.
        origin: Integer.
    """

    array: np.ndarray
    low: int
    high: int
    origin: int


def encode(array: np.ndarray, trellis: Trellis | None) -> bytes:
    """Codes an array that is neither empty nor constant.

    Args:
        array: Integer array that spans at most 65536 values.
        trellis: Optional `Trellis`.

    Returns:
        The stream.

    Raises:
        SqueezeError: If these are no codes of that trellis.
    """
    tensor = _prepare(array, trellis)
    machines = None if trellis is None else _machines(trellis, tensor.array)
    tokens_of = _tokens(tensor, trellis is not None)
    escapes = tokens_of.plain << tokens_of.shift < tensor.high - tensor.low + 1
    escapes |= tensor.low < tokens_of.low
    choices = class_rans_search.choose(
        tensor.array, tokens_of, escapes, machines
    )
    if tensor.origin:
        # A neighbour's sign means nothing far from zero.
        choices = [c for c in choices if c.contexts.neighbour is None]
    best = min(choices, key=judged)
    if array.size > _TRIED_ELEMENTS:
        choices = [best]
    most = _WORTH_TRYING * judged(best) + _WORTH_BITS
    choices = [c for c in choices if judged(c) <= most]
    tried = [
        _try(tensor, tokens_of, escapes, choice, machines) for choice in choices
    ]
    _, engine, fitted = min(tried, key=lambda each: each[0])
    return _code(engine, fitted, tensor.origin)


def _try(
    tensor: _Tensor,
    tokens_of: Tokens,
    escapes: bool,
    choice: Choice,
    machines: Machines | None,
) -> tuple[float, Elements, FittedTables]:
    """What a choice really takes, and what is needed to code it."""
    layout = (
        machines.layout if machines else _layout(tensor.array.shape, choice)
    )
    block_rows = USUAL_BLOCK_ROWS
    if layout.rows > USUAL_BLOCK_ROWS:
        block_rows = _block_rows(choice.bits / layout.count)
    matrix = class_rans_layout.to_matrix(tensor.array, layout)
    rows = machines.rows if machines else None
    kind = NativeElements if class_rans_native.available() else Elements
    engine = kind(matrix, layout, tokens_of, choice.contexts, block_rows, rows)
    # As the reader will see them: the centre of tables depends on it.
    moved = _moved(tokens_of, tensor.origin)
    fitted = _fit(engine.counts(), moved, escapes)
    actual = dataclasses.replace(choice, bits=fitted.bits + choice.side)
    return judged(actual), engine, fitted


def _moved(tokens_of: Tokens, origin: int) -> Tokens:
    return Tokens(tokens_of.low + origin, tokens_of.shift, tokens_of.plain)


def _prepare(array: np.ndarray, trellis: Trellis | None) -> _Tensor:
    low, high = int(array.min()), int(array.max())
    if trellis is not None:
        if max(-low, high) > MAX_MAGNITUDE:
            raise _not_of(trellis, f"codes up to {max(-low, high)}")
        ends = class_rans_contexts.levels_of(np.array([low, high]))
        return _Tensor(_readable(array), int(ends[0]), int(ends[1]), 0)
    if max(-low, high) <= MAX_MAGNITUDE:
        return _Tensor(_readable(array), low, high, 0)
    flat = subtract_offset(dtypes.flat_native(array), low)
    values = flat.astype(np.int32).reshape(array.shape)
    return _Tensor(values, 0, high - low, low)


def _readable(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    natural = array.dtype.isnative and array.dtype.name in _NATURAL_DTYPES
    if natural and array.flags.aligned:
        return array
    return array.astype(np.int32)


def _not_of(trellis: Trellis, received: str) -> SqueezeError:
    return SqueezeError(
        f"Expected codes that {trellis} can have made, with a power of two "
        f"of chains up to {class_rans_layout.MAX_LANES} and a geometry that "
        f"fits the array. Received: {received}"
    )


def _machines(trellis: Trellis, codes: np.ndarray) -> Machines:
    chains = trellis.chains
    if chains & (chains - 1) or not 1 <= chains <= class_rans_layout.MAX_LANES:
        raise _not_of(trellis, f"{chains} chains")
    try:
        layout = class_rans_layout.layout_of(
            codes.shape, trellis.geometry, chains
        )
    except ValueError as error:
        raise _not_of(trellis, f"shape {codes.shape}") from error
    rows = class_rans_layout.to_rows(
        class_rans_layout.to_matrix(codes, layout), layout
    )
    parities = np.empty(rows.shape, np.uint8)
    for tile in tiles(rows.shape):
        levels = class_rans_contexts.levels_of(rows[tile].astype(np.int32))
        parities[tile] = levels & 1
    machines = class_rans_contexts.machine_states(parities, trellis.states)
    there = class_rans_layout.taking_part(layout)
    for tile in tiles(rows.shape):
        some = rows[tile].astype(np.int32)
        levels = class_rans_contexts.levels_of(some)
        again = class_rans_contexts.codes_of(levels, machines[tile] & 1)
        if not ((again == some) | ~there[tile]).all():
            raise _not_of(trellis, "codes on the other grid")
    return Machines(layout, trellis.states, machines)


def _tokens(tensor: _Tensor, is_trellis: bool) -> Tokens:
    span = tensor.high - tensor.low + 1
    if span < 256:
        return Tokens(tensor.low, 0, span)
    level = class_rans_contexts.levels_of if is_trellis else None
    return fit_tokens(tensor.array, tensor.low, tensor.high, level)


def _layout(shape: tuple[int, ...], choice: Choice) -> Layout:
    view, most = choice.view, class_rans_layout.MAX_LANES
    if view == "flat" and len(shape) > 1:
        channels = shape[-1]
        if channels % most == 0 or channels >= _MANY_CHANNELS:
            view = "matrix"
    layout = class_rans_layout.layout_of(shape, view, 1)
    if view != "flat":
        most = min(most, 1 << (layout.channels - 1).bit_length())
    lanes = 1
    while lanes < most and 2 * lanes * _WASTE_BITS <= _LANE_WASTE * choice.bits:
        lanes *= 2
    if choice.view == "flat" and lanes < most:
        view = "flat"
    return class_rans_layout.layout_of(shape, view, lanes)


def _block_rows(bits_each: float) -> int:
    for rows in _BLOCK_ROWS:
        if rows * bits_each * _BLOCK_WASTE >= _WASTE_BITS:
            return rows
    return _BLOCK_ROWS[-1]


def _fit(counts: np.ndarray, tokens_of: Tokens, escapes: bool) -> FittedTables:
    """Tables for counts whose last column is what has no token."""
    if escapes:
        return fit_tables(counts, tokens_of.alphabet(True))
    plain = counts[:, :-1]
    named = name_tables(plain, tokens_of.alphabet(False))
    fitted = fit_tables(plain, tokens_of.alphabet(False), named)
    if tokens_of.plain > 255 or not has_rare_tokens(plain):
        return fitted
    other = fit_tables(counts, tokens_of.alphabet(True), named)
    # The escape itself needs a line in the header and a table.
    better = other.bits + 48 < fitted.bits
    return other if better else fitted


def _code(engine: Elements, fitted: FittedTables, origin: int) -> bytes:
    written = list(fitted.tables)
    frequencies = fitted.frequencies
    coding, escape_range = None, None
    if fitted.alphabet.escape:
        escaped = engine.escape(frequencies)
        low, span = engine.tokens_of.low, 1
        if escaped.size:
            low, high = int(escaped.min()), int(escaped.max())
            span = high - low + 1
        tokens_of = covering(low, span)
        counts = np.bincount(tokens_of.of(escaped), minlength=tokens_of.plain)
        alphabet = _moved(tokens_of, origin).alphabet(False)
        table = fit_tables(counts[None], alphabet).tables[0]
        written.append(table)
        coding = EscapeCoding(tokens_of, table.frequencies)
        escape_range = low + origin, span
    states, words = engine.encode(frequencies, coding)
    header = write_header(
        engine.layout,
        engine.contexts,
        engine.block_rows,
        _moved(engine.tokens_of, origin),
        escape_range,
        written,
    )
    return b"".join([header, *_block_parts(engine, states, words)])


def _block_parts(
    engine: Elements, states: np.ndarray, words: list[np.ndarray]
) -> list[bytes | memoryview]:
    lanes = np.arange(engine.layout.lanes)
    widths = engine.layout.widths(engine.block_rows)
    there = lanes < widths[:, None]
    parts: list[bytes | memoryview] = [varint(w.size) for w in words[:-1]]
    parts.append(states[there].astype("<u4").tobytes())
    if engine.machines is not None:
        width = engine.contexts.states.bit_length() - 1
        begun = engine.machines[:: engine.block_rows][1:][there[1:]]
        parts.append(bits.pack_fixed(begun, width))
    parts += [w.astype("<u2", copy=False).view(np.uint8).data for w in words]
    return parts

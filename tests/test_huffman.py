import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze.codecs.huffman import Huffman
from keras_squeeze.codecs.huffman_code import (
    MAX_LENGTH,
    canonical_codes,
    decoding_table,
    limited_lengths,
)
from keras_squeeze.codecs.rans import entropy_bits
from keras_squeeze.errors import CorruptArtifactError, SqueezeError
from keras_squeeze.testing import check_codec

HUFFMAN = Huffman()


def test_keeps_the_contract_of_codecs():
    check_codec(HUFFMAN)


def optimal_cost(counts):
    """The cost of Huffman's own tree, without a limit."""
    import heapq

    heap = [int(c) for c in counts if c]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        total += joined
        heapq.heappush(heap, joined)
    return total


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=2, max_size=60))
def test_lengths_are_optimal_and_complete(counts):
    counts = np.array(counts)
    if np.count_nonzero(counts) < 2:
        return
    lengths = limited_lengths(counts)
    assert ((lengths > 0) == (counts > 0)).all()
    assert (1 / 2.0 ** lengths[lengths > 0]).sum() == 1
    assert int((lengths * counts).sum()) == optimal_cost(counts)


def test_lengths_keep_their_limit():
    fibonacci = [1, 1]
    while len(fibonacci) < 40:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = limited_lengths(np.array(fibonacci))
    assert lengths.max() == MAX_LENGTH
    assert (1 / 2.0**lengths).sum() == 1
    assert (np.diff(lengths) <= 0).all()
    flat = limited_lengths(np.ones(4096, int), limit=12)
    assert (flat == 12).all()


def test_codes_are_canonical_and_the_table_reads_them():
    lengths = np.array([3, 1, 0, 3, 2])
    codes = canonical_codes(lengths)
    assert [f"{c:0{n}b}" for c, n in zip(codes, lengths, strict=True) if n] == [
        "110",
        "0",
        "111",
        "10",
    ]
    table, width = decoding_table(lengths)
    assert width == 3
    assert (table >> 4).tolist() == [1, 1, 1, 1, 4, 4, 0, 3]
    assert (table & 15).tolist() == [1, 1, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("count", [2, 1023, 1024, 1025, 5000, 100_000])
def test_comes_close_to_the_entropy(count):
    codes = np.random.default_rng(count).normal(0, 9, count).round()
    codes = codes.astype("int16")
    data = HUFFMAN.encode(codes)
    assert (HUFFMAN.decode(data, codes.shape, "int16") == codes).all()
    entropy = entropy_bits(np.bincount(codes - codes.min())) / 8
    assert len(data) < 1.03 * entropy + 80


def test_the_documented_layout():
    # low -1, span 3, one lane; lengths 2, 1, 2; symbols 1 1 0 2.
    array = np.array([0, 0, -1, 1], "int8")
    lengths = "00001" + "01" + "001"
    lanes = "0" + "0" + "10" + "11"
    expected = bytes([1, 2, 0])
    expected += int(lengths.ljust(16, "0"), 2).to_bytes(2, "big")
    expected += (6).to_bytes(2, "little") + bytes([int(lanes + "00", 2)])
    assert HUFFMAN.encode(array) == expected
    assert (HUFFMAN.decode(expected, (4,), "int8") == array).all()
    assert HUFFMAN.encode(np.full(9, 5, "int8")) == bytes([10, 0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "more bytes"),
        ("01ff7f", "at most"),
        ("010205", "at most 3"),
        ("010200", "lengths of 3 codes"),
        ("01020070", "lengths in 0..15"),
        ("01020038", "a complete code"),
        ("010200e0", "a complete code"),
        ("0102000a41060030", "zero bits after the lengths"),
        ("0102000a40060033", "zero bits after the last lane"),
        ("0102000a40050028", "lanes that end where they should"),
        ("0102000a4007002c", "lanes that end where they should"),
        ("0102000a4006002c00", "no trailing bytes"),
        ("0102000a400600", "more bytes"),
    ],
)
def test_hostile_bytes_are_named(data, message):
    with pytest.raises(CorruptArtifactError, match=message):
        HUFFMAN.decode(bytes.fromhex(data), (4,), "int8")


def test_lanes_are_bounded():
    start = HUFFMAN.encode(np.arange(5000) % 2)
    assert start[2] == 4
    with pytest.raises(CorruptArtifactError, match="at most 4096"):
        HUFFMAN.decode(start[:2] + b"\0" + start[3:], (5000,), "int64")


def test_wide_and_float_arrays_are_refused():
    for array in (np.array([0, 4096]), np.ones(3)):
        assert not HUFFMAN.supports(array)
        with pytest.raises(SqueezeError, match="huffman"):
            HUFFMAN.encode(array)
    with pytest.raises(CorruptArtifactError, match="integer dtype"):
        HUFFMAN.decode(b"\0", (4,), "float32")

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_squeeze.codecs import rans_table
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.rans_table import FrequencyTable
from keras_squeeze.errors import CorruptArtifactError


def test_normalize_finds_the_optimum():
    counts = np.array([90, 0, 5, 3, 2])
    best = min(
        rans_table.payload_bits(counts, FrequencyTable(4, np.array(f)))
        for f in itertools.product(range(1, 16), [0], *[range(1, 16)] * 3)
        if sum(f) == 16
    )
    frequencies = rans_table.normalize(counts, 4)
    table = FrequencyTable(4, frequencies)
    assert rans_table.payload_bits(counts, table) == pytest.approx(best)


@given(
    st.lists(st.integers(0, 10**6), min_size=2, max_size=300),
    st.integers(9, 16),
)
def test_normalize_keeps_every_symbol(counts, precision):
    counts = np.array([*counts, 1])
    frequencies = rans_table.normalize(counts, precision)
    assert frequencies.sum() == 1 << precision
    assert ((frequencies > 0) == (counts > 0)).all()


@given(st.lists(st.integers(0, 10**5), min_size=2, max_size=500))
def test_a_table_survives_writing(counts):
    counts = np.array([*counts, 1, 1])
    table = rans_table.fit(counts)
    data = rans_table.write(table)
    assert len(data) == -(-rans_table.table_bits(table) // 8)
    cursor = ByteCursor(data, "test")
    span, mode = counts.size, table.mode
    again = rans_table.read(cursor, table.precision, span, mode)
    cursor.finish()
    assert (again.frequencies == table.frequencies).all()


def test_tiny_tensors_get_small_tables():
    assert rans_table.max_precision(1) == rans_table.max_precision(64) == 8
    assert rans_table.max_precision(1000) == 11
    assert rans_table.max_precision(10**9) == 16
    assert rans_table.fit(np.array([3, 4])).precision <= 8


def test_skewed_counts_get_a_fine_table():
    table = rans_table.fit(np.array([10**6, 30, 3, 3]))
    assert table.precision >= 14 and table.mode == 0


@pytest.mark.parametrize(
    ("data", "span", "message"),
    [
        ("", 3, "2 frequencies"),
        ("00", 3, "2 frequencies"),
        ("0c", 4, "3 frequencies"),
        ("40", 2, "at most 4 bits"),  # one zero: bit length -1
        ("0020", 2, "at most 4 bits"),  # ten zeros: bit length 5
        ("0d", 2, "zero bits"),
        ("00e0", 4, "more bytes"),  # bit lengths 4, 4, 4: 20 bits
    ],
)
def test_hostile_tables_are_refused(data, span, message):
    cursor = ByteCursor(bytes.fromhex(data), "test")
    with pytest.raises(CorruptArtifactError, match=message):
        rans_table.read(cursor, 4, span, 0)


def test_the_mode_must_have_the_largest_share():
    # One other symbol with frequency 15 of 16 leaves 1 for the mode.
    data = bytes.fromhex("00f0")
    with pytest.raises(CorruptArtifactError, match="leave the mode most"):
        rans_table.read(ByteCursor(data, "test"), 4, 2, 0)

"""What the search for contexts and tables asks of the compiled kernels."""

import itertools

import numpy as np
import pytest

from keras_squeeze import native
from keras_squeeze.codecs import class_rans_fitting, class_rans_native
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.class_rans_alphabet import Tokens
from keras_squeeze.codecs.class_rans_bits import BitReader, BitWriter
from keras_squeeze.codecs.class_rans_contexts import Neighbour
from keras_squeeze.codecs.class_rans_estimates import Estimator
from keras_squeeze.codecs.class_rans_fitting import fit_tables
from keras_squeeze.codecs.class_rans_native_estimates import NativeEstimator
from keras_squeeze.codecs.class_rans_native_header import native_read_tables
from keras_squeeze.codecs.class_rans_native_sample import NativeSample
from keras_squeeze.codecs.class_rans_sample import (
    MOST_EXPONENT,
    Partition,
    Sample,
)
from keras_squeeze.codecs.class_rans_table import Alphabet, read_tables
from keras_squeeze.errors import CorruptArtifactError

pytestmark = pytest.mark.skipif(
    not native.available(), reason="no compiled kernels"
)

ALPHABETS = [
    Alphabet(2, 0, False),
    Alphabet(15, 7, False),
    Alphabet(16, 3, True),
    Alphabet(256, 127, False),
    Alphabet(256, 254, True),
]


def histograms(alphabet):
    """Rows of counts, narrow, wide, shifted, of one token and of none."""
    rng = np.random.default_rng(0)
    rows = []
    for spread in (0.2, 1, 5, 40, 300):
        for center in (alphabet.center, 0, alphabet.plain // 2):
            values = rng.normal(center, spread, 1 << rng.integers(3, 12))
            tokens = np.clip(values.round(), 0, alphabet.tokens - 1)
            rows.append(
                np.bincount(tokens.astype(int), minlength=alphabet.tokens)
            )
    rows[3][:] = 0
    rows[4][:] = np.eye(alphabet.tokens, dtype=int)[-1]
    return np.array(rows)


def reference(monkeypatch, work):
    with monkeypatch.context() as patch:
        patch.setattr(class_rans_native, "available", lambda: False)
        return work()


def samples(dtype, order):
    rng = np.random.default_rng(1)
    matrix = rng.normal(0, 40, (150, 700)).round().clip(-120, 120)
    matrix = np.asarray(np.abs(matrix), dtype, order=order)
    grids = rng.integers(0, 2, matrix[::2, ::3].shape, dtype=np.uint8)
    for chosen in (None, grids):
        where = slice(None, None, 2), slice(None, None, 3)
        arguments = matrix, *where, Tokens(3, 1, 40), 41, chosen
        yield Sample(*arguments), NativeSample(*arguments)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
def test_samples_are_those_of_numpy(dtype, order):
    rng = np.random.default_rng(2)
    for slow, fast in samples(dtype, order):
        assert (slow.values == fast.values).all()
        assert (slow.tokens == fast.tokens).all()
        rows, columns = slow.values.shape
        exponents = rng.integers(-10, 11, rows + columns).astype(np.int16)
        nears = None, Neighbour(1, 5), Neighbour(7, 30)
        shapes = (41, 0, -20), (9, 1, -8), (4, 2, 3)
        for near, shape in itertools.product(nears, shapes):
            how = Partition(exponents, rows, *shape), near
            assert (slow.counts(*how) == fast.counts(*how)).all()
        some = slice(None, None, 4)
        totals = [s.column_sums(some) for s in (slow, fast)]
        assert (totals[0] == totals[1]).all() and totals[0].dtype == np.int64
        steps = rng.integers(-MOST_EXPONENT, MOST_EXPONENT + 1, 175)
        sums = [s.row_sums(some, steps.astype(np.int16)) for s in (slow, fast)]
        assert (sums[0] == sums[1]).all()


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_estimates_are_those_of_numpy(alphabet):
    counts = histograms(alphabet)
    slow, fast = Estimator(alphabet), NativeEstimator(alphabet)
    for each in (slow, fast):
        each.take(counts[:, None])
        each.take(counts[:1, None])
        each.take(counts[:8].reshape(4, 2, -1))
    first = slow.partitions(counts[:, None], -7)
    assert first == fast.partitions(counts[:, None], -7) and len(first) == 3
    second = slow.partitions(counts[:14].reshape(7, 2, -1), 2)
    assert second == fast.partitions(counts[:14].reshape(7, 2, -1), 2)
    found = slow.finish()
    assert found == fast.finish() and len(found) == 3 + 3 + len(second)
    assert slow.finish() == fast.finish() == []


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_tables_are_those_of_numpy(alphabet, monkeypatch):
    counts = histograms(alphabet)
    fast = fit_tables(counts, alphabet)
    slow = reference(monkeypatch, lambda: fit_tables(counts, alphabet))
    assert fast.bits == slow.bits
    assert (fast.frequencies == slow.frequencies).all()
    assert (fast.named == slow.named).all()
    assert (fast.written == slow.written).all()
    usual = class_rans_fitting.moments(counts, alphabet)
    for one, other in zip(
        usual,
        class_rans_fitting.native_moments(counts, alphabet),
        strict=True,
    ):
        assert (one == other).all()


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_written_tables_are_read_again(alphabet):
    fitted = fit_tables(histograms(alphabet), alphabet)
    writer = BitWriter()
    writer.field(5, 3)
    for table in fitted.tables:
        before = len(b"".join(writer._parts))
        table.write(writer)
        assert len(b"".join(writer._parts)) - before == table.size
    data = writer.to_bytes()
    for read in (read_tables, native_read_tables):
        reader = BitReader(ByteCursor(data, "test"))
        assert reader.field(3) == 5
        found = read(reader, len(fitted.frequencies), alphabet)
        assert (found == fitted.frequencies).all()
        reader.finish()


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_damaged_tables_are_read_alike(alphabet):
    rng = np.random.default_rng(3)
    damaged = 0
    for size in rng.integers(0, 90, 400):
        data = rng.bytes(size)
        reader = BitReader(ByteCursor(data, "test"))
        found = native_read_tables(reader, 2, alphabet)
        again = BitReader(ByteCursor(data, "test"))
        if found is None:
            damaged += 1
            with pytest.raises(CorruptArtifactError):
                read_tables(again, 2, alphabet)
            continue
        assert (found == read_tables(again, 2, alphabet)).all()
        assert reader.position == again.position
    assert 0 < damaged < 400

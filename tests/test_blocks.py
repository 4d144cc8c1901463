import numpy as np
import pytest

from keras_squeeze.codecs import blocks, float_fields_search, gaps
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.errors import CorruptArtifactError


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)


@pytest.mark.parametrize(
    "shape", [(1,), (20,), (3, 5), (2, 20), (1, 3, 9, 2), (4, 1, 1), (2, 3, 30)]
)
def test_tiles_cover_an_array_once_in_order(shape):
    array = np.arange(np.prod(shape)).reshape(shape)
    parts = [array[tile] for tile in blocks.tiles(shape)]
    assert all(part.ndim == array.ndim for part in parts)
    assert max(part.size for part in parts) <= 8
    joined = np.concatenate([part.reshape(-1) for part in parts])
    assert (joined == array.reshape(-1)).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint64", "int32"])
def test_values_are_counted_across_blocks(dtype):
    values = np.random.default_rng(0).integers(0, 30, 100).astype(dtype)
    expected = np.bincount(values.astype(int), minlength=40)
    assert (blocks.count_values(values, least=40) == expected).all()


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("parameter", [0, 1, 3, 9])
def test_gaps_survive_the_borders_of_blocks(share, parameter, monkeypatch):
    monkeypatch.setattr(gaps, "_PIECE_BYTES", 3)
    differs = np.random.default_rng(3).random(501) < share
    differs[77] = True
    count = int(differs.sum())
    data = gaps.write(differs, parameter)
    cursor = ByteCursor(data, "sparse")
    assert (gaps.read(cursor, count, parameter, 501) == differs).all()
    cursor.finish()
    last = int(np.flatnonzero(differs)[-1])
    with pytest.raises(CorruptArtifactError, match="positions below"):
        gaps.read(ByteCursor(data, "sparse"), count, parameter, last)


def test_the_parameter_makes_the_shortest_code():
    differs = np.random.default_rng(4).random(3000) < 0.05
    parameter, length = gaps.best_parameter(differs)
    sizes = [8 * len(gaps.write(differs, k)) for k in range(8)]
    assert abs(sizes[parameter] - length) < 16
    assert sizes[parameter] == min(sizes)


@pytest.mark.parametrize("count", [1, 2, 50, 99, 100, 101, 150, 3000])
def test_the_low_percentile_is_that_of_numpy(count):
    rng = np.random.default_rng(count)
    octaves = rng.permutation(np.arange(64, dtype="float32") / 16)
    symbols = rng.integers(0, 64, count)
    counts = np.bincount(symbols, minlength=64)
    found = float_fields_search._low_octave(octaves, counts)
    assert found == pytest.approx(np.quantile(octaves[symbols], 0.01), abs=1e-6)

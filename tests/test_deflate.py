import zlib

import numpy as np
import pytest

from keras_squeeze.codecs import Deflate
from keras_squeeze.errors import CorruptArtifactError


def deflate(data):
    return zlib.compress(data, wbits=-15)


def test_the_documented_layout():
    array = np.arange(500, dtype=">i2")
    data = Deflate().encode(array)
    assert zlib.decompress(data, wbits=-15) == array.astype("<i2").tobytes()
    assert Deflate().encode(array[:0]) == b""


def test_any_deflate_stream_of_the_right_size_is_read():
    stored = zlib.compress(bytes(range(40)), 0, wbits=-15)
    out = Deflate().decode(stored, (10,), "int32")
    assert out.tobytes() == bytes(range(40))


@pytest.mark.parametrize(
    "data",
    [
        deflate(bytes(39)),
        deflate(bytes(41)),
        deflate(bytes(40))[:-1],
        deflate(bytes(40)) + b"\0",
        deflate(bytes(40)) * 2,
        zlib.compress(bytes(40)),
        b"",
        b"\xff" * 9,
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(CorruptArtifactError, match="Received"):
        Deflate().decode(data, (10,), "int32")


def test_no_elements_means_no_bytes():
    assert Deflate().decode(b"", (0, 3), "int8").shape == (0, 3)
    with pytest.raises(CorruptArtifactError, match="exactly 0 bytes"):
        Deflate().decode(deflate(b""), (0,), "int8")


def test_a_bomb_is_not_expanded():
    tracemalloc = pytest.importorskip("tracemalloc")
    bomb = deflate(bytes(1 << 26))
    tracemalloc.start()
    with pytest.raises(CorruptArtifactError, match="exactly 100 bytes"):
        Deflate().decode(bomb, (100,), "int8")
    assert tracemalloc.get_traced_memory()[1] < 1 << 18
    tracemalloc.stop()


def test_the_size_hint_is_no_more_than_the_size_of_large_arrays():
    rng = np.random.default_rng(0)
    for array in (
        rng.normal(0, 30, 300_000).astype("int8"),
        np.tile(rng.integers(0, 99, 700), 500),
        np.zeros(300_000, "int16"),
    ):
        assert Deflate().size_hint(array) <= len(Deflate().encode(array)) + 600
    assert Deflate().size_hint(np.arange(100)) == 0

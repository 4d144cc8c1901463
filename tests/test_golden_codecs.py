"""Bytes written once must decode for ever.

The files in `golden/codecs` are never overwritten. When a codec is added,
run this module as a script: it writes the files that are missing.
"""

from pathlib import Path

import numpy as np
import pytest

from keras_squeeze import codecs

FOLDER = Path(__file__).parent / "golden" / "codecs"


def _hashed(count, modulus):
    """Numbers without pattern that need no random generator."""
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2654435761)
    return (mixed ^ (mixed >> np.uint64(13))) % np.uint64(modulus)


def _codes():
    """Integers that lean to zero, as pruned codes do."""
    folded = np.minimum(_hashed(5000, 97), _hashed(5000, 89)[::-1])
    return (folded // 9).astype("int8").reshape(50, 100) - 3


def _weights(dtype, count=150):
    steps = _hashed(count, 1 << 20).astype("float64") / (1 << 20) - 0.5
    return (steps**3).astype(codecs.dtype_from_name(dtype))


def _mostly_zero(array):
    return np.where(_hashed(array.size, 23) == 5, array, array.dtype.type(0))


CASES = {
    "raw-int16": np.array([[1, -2, 32767], [-32768, 0, 5]], "int16"),
    "raw-float32": np.array([-0.0, np.nan, 1e-42, -np.inf], "float32"),
    "constant-float32": np.full((3, 5), 0.001, "float32"),
    "constant-int64": np.zeros((2, 2), "int64"),
    "bitpack-int8": _codes()[:9],
    "bitpack-uint64": np.uint64(2**64 - 1) - _hashed(60, 1000),
    "bitpack-bool": _hashed(77, 2).astype(bool),
    "deflate-int32": np.tile(_hashed(30, 999).astype("int32"), 20),
    "rans-int8": _codes(),
    "rans-int8-one-lane": _codes()[:20],
    "rans-uint16-wide": _hashed(400, 3000).astype("uint16"),
    "rans-int8-one-symbol": np.full(300, -4, "int8"),
    "rans-bool": _hashed(900, 11) == 0,
    "sparse-int8": _mostly_zero(_codes().reshape(-1)),
    "sparse-float32": _mostly_zero(_weights("float32", 900)),
    "sparse-int16-fill": _mostly_zero(_codes().reshape(-1)).astype("int16") + 9,
    "byte_planes-float32": _weights("float32"),
    "byte_planes-float16": _weights("float16"),
    "byte_planes-bfloat16": _weights("bfloat16"),
    "byte_planes-float64": _weights("float64", 40),
    "byte_planes-complex64": _weights("float32", 60).view("complex64"),
}


@pytest.mark.parametrize("name", CASES)
def test_old_bytes_decode(name):
    array, codec = CASES[name], codecs.get(name.split("-")[0])
    data = (FOLDER / f"{name}.bin").read_bytes()
    out = codec.decode(data, array.shape, array.dtype)
    assert out.dtype == array.dtype and out.tobytes() == array.tobytes()
    assert len(codec.encode(array)) <= len(data)


def test_every_codec_has_golden_bytes_and_they_are_few():
    files = {path.stem: path for path in FOLDER.glob("*.bin")}
    assert set(files) == set(CASES)
    built_in = {type(c).id for c in map(codecs.get, codecs.names())}
    assert {name.split("-")[0] for name in files} >= built_in
    assert sum(path.stat().st_size for path in files.values()) < 10_000


if __name__ == "__main__":
    for name, array in CASES.items():
        path = FOLDER / f"{name}.bin"
        if not path.exists():
            codec = codecs.get(name.split("-")[0])
            path.write_bytes(codec.encode(array))

"""Bytes written once must decode for ever.

The files in `golden/codecs` are never overwritten. When a codec is added,
run this module as a script: it writes the files that are missing.
"""

from pathlib import Path

import numpy as np
import pytest

from keras_squeeze import codecs
from keras_squeeze.codecs.kernel_geometry import (
    from_canonical,
    geometry_of,
    to_canonical,
)
from keras_squeeze.codecs.trellis import Trellis, next_states
from keras_squeeze.codecs.trials import missing_library

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


def _kernel(dtype, spread):
    """A convolution whose channels have scales of their own."""
    scale = 1 + _hashed(12, spread)
    values = _hashed(3 * 3 * 10 * 12, 2001).reshape(3, 3, 10, 12) - 1000.0
    return (values**3 / 1e9 * scale).astype(dtype)


def _low_rank(shape):
    """Channels that are sums of two patterns, of one largest magnitude."""
    channels = shape[-1]
    left = _hashed(2 * 360, 41).reshape(-1, 2).astype("int64") - 20
    right = _hashed(2 * channels, 31)[::-1].reshape(2, -1).astype("int64") - 15
    values = (left @ right)[: np.prod(shape[:-1])]
    most = np.abs(values).max(axis=0)
    return (values * 127 // most).astype("int8").reshape(shape)


def _trellis_codes(kernel):
    """Codes that follow a trellis: levels without pattern, made codes."""
    geometry = geometry_of((3, 3, 10, 12), TRELLIS.geometry)
    levels = to_canonical(kernel, geometry).astype("int64")
    table = next_states(TRELLIS.states)
    states = [0] * TRELLIS.chains
    codes = np.zeros(levels.shape, "int8")
    for place, level in np.ndenumerate(levels):
        chain = place[0] % TRELLIS.chains
        grid = states[chain] & 1
        codes[place] = 2 * level - grid * np.sign(level)
        states[chain] = int(table[states[chain], level & 1])
    return from_canonical(codes, geometry, (3, 3, 10, 12))


LIBRARY_CODECS = ("zstd", "brotli", "xz", "bzip2", "lz4", "snappy", "lzo")
TRELLIS = Trellis(8, "convolution", 4)

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
    "class_rans-int8": _codes(),
    "class_rans-int8-kernel": _kernel("int8", 9),
    "class_rans-int16-kernel": _kernel("int16", 900),
    "class_rans-int8-trellis": _trellis_codes(_kernel("int8", 5)),
    "class_rans-uint16-wide": _hashed(400, 60_000).astype("uint16"),
    "class_rans-bool": _hashed(900, 11) == 0,
    "class_rans-int8-one-symbol": np.full(300, -4, "int8"),
    "context_mixing-int8": _codes(),
    "context_mixing-int8-kernel": _kernel("int8", 9),
    "context_mixing-int16-kernel": _kernel("int16", 900),
    "context_mixing-int8-trellis": _trellis_codes(_kernel("int8", 5)),
    "context_mixing-int32-wide": _hashed(100, 1 << 30).astype("int32"),
    "context_mixing-uint8-few": (_hashed(300, 3) * 7).astype("uint8"),
    "context_mixing-int8-one-symbol": np.full(300, -4, "int8"),
    "context_mixing-int8-low-rank": _low_rank((40, 36)),
    "context_mixing-int8-low-rank-kernel": _low_rank((3, 3, 8, 12)),
    "context_mixing-int8-trellis-low-rank": _trellis_codes(
        _low_rank((3, 3, 10, 12)) // 8
    ),
    "float_fields-float32": _weights("float32"),
    "float_fields-float32-kernel": _weights("float32", 600).reshape(20, 30),
    "float_fields-float32-rounded": _weights("float16", 300).astype("float32"),
    "float_fields-float32-palette": _weights("float32", 4).repeat(40),
    "float_fields-float16": _weights("float16"),
    "float_fields-bfloat16": _weights("bfloat16"),
    "float_fields-float64": _weights("float64", 40),
    "huffman-int8": _codes()[:10],
    "lzw-int8": _codes()[:10],
    "zstd-int8": _codes()[:10],
    "brotli-int8": _codes()[:10],
    "xz-int8": _codes()[:10],
    "bzip2-int8": _codes()[:10],
    "lz4-int8": _codes()[:10],
    "snappy-int8": _codes()[:10],
    "lzo-int8": _codes()[:10],
}


def _codec(name):
    codec = codecs.get(name.split("-")[0])
    return type(codec)(trellis=TRELLIS) if "trellis" in name else codec


@pytest.mark.parametrize("name", CASES)
def test_old_bytes_decode(name):
    array, codec = CASES[name], _codec(name)
    if missing_library(codec):
        pytest.skip(f"{missing_library(codec)} is not installed")
    data = (FOLDER / f"{name}.bin").read_bytes()
    out = codec.decode(data, array.shape, array.dtype)
    assert out.dtype == array.dtype and out.tobytes() == array.tobytes()
    # The encoders of libraries are not ours; without compiled kernels context
    # mixing does not search for the best parameters.
    searching = getattr(codec, "is_fast", True)
    if codec.id not in LIBRARY_CODECS and searching:
        assert len(codec.encode(array)) <= len(data)


def test_every_codec_has_golden_bytes_and_they_are_few():
    files = {path.stem: path for path in FOLDER.glob("*.bin")}
    assert set(files) == set(CASES)
    built_in = {type(c).id for c in map(codecs.get, codecs.names())}
    assert {name.split("-")[0] for name in files} >= built_in
    assert sum(path.stat().st_size for path in files.values()) < 40_000


if __name__ == "__main__":
    for name, array in CASES.items():
        path = FOLDER / f"{name}.bin"
        if not path.exists():
            path.write_bytes(_codec(name).encode(array))

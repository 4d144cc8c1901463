"""What the stream fuzzers decode: a codec, a dtype, a shape and bytes.

    python -m tests.fuzzing.entries FILE

prints what every entry of a corpus decodes to. An entry is a few bytes of
header, which fuzzers change like all others, then the stream:

- byte: the codec, byte: the dtype, each an index;
- byte: the number of axes; of each axis its length, two bytes;
- the stream.

A corpus is one file: of each entry its length, two bytes, and the entry.
"""

import hashlib
import json
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_squeeze import codecs
from keras_squeeze.codecs import dtypes
from keras_squeeze.errors import SqueezeError

CODECS = (
    *("rans", "class_rans", "context_mixing", "float_fields"),
    *("bitpack", "byte_planes", "constant", "deflate", "huffman", "lzw"),
    *("raw", "sparse"),
)
# Entries of more are not worth a fuzzer's time.
MOST_ELEMENTS = 1 << 14
MOST_AXES = 5
CORPUS = Path(__file__).parent / "corpus" / "streams.bin"


class Entry(NamedTuple):
    codec: str
    dtype: str
    shape: tuple[int, ...]
    stream: bytes

    def pack(self):
        head = [CODECS.index(self.codec), dtypes.DTYPE_NAMES.index(self.dtype)]
        sizes = np.array(self.shape, "<u2").tobytes()
        return bytes([*head, len(self.shape)]) + sizes + self.stream


def unpack(data):
    """The entry of some bytes, whatever they are, or `None`."""
    if len(data) < 3 or len(data) < 3 + 2 * (data[2] % (MOST_AXES + 1)):
        return None
    axes = data[2] % (MOST_AXES + 1)
    sizes = np.frombuffer(data, "<u2", axes, 3)
    shape = tuple(sizes.tolist())
    if int(np.prod(sizes, dtype=object)) > MOST_ELEMENTS:
        return None
    return Entry(
        CODECS[data[0] % len(CODECS)],
        dtypes.DTYPE_NAMES[data[1] % len(dtypes.DTYPE_NAMES)],
        shape,
        data[3 + 2 * axes :],
    )


def decode(entry):
    """The array, or `None` where the codec refuses the stream."""
    codec = codecs.get(entry.codec)
    # Damaged floats may be anything; that is no reason to warn.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            out = codec.decode(entry.stream, entry.shape, entry.dtype)
        except SqueezeError:
            return None
    if out.shape != entry.shape or out.dtype.name != entry.dtype:
        raise AssertionError(f"{entry} gave {out.dtype} of {out.shape}")
    return out


def read_corpus(path=CORPUS):
    data, found, place = Path(path).read_bytes(), [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 2], "little")
        found.append(data[place + 2 : place + 2 + size])
        place += 2 + size
    return found


def write_corpus(items, path=CORPUS):
    sizes = [len(item).to_bytes(2, "little") for item in items]
    both = zip(sizes, items, strict=True)
    Path(path).write_bytes(b"".join(a + b for a, b in both))


def results(items):
    """What entries decode to: a digest, or `None` for an error."""
    found = []
    for item in items:
        entry = unpack(item)
        out = None if entry is None else decode(entry)
        found.append(
            out if out is None else hashlib.sha256(out.tobytes()).hexdigest()
        )
    return found


if __name__ == "__main__":
    print(json.dumps(results(read_corpus(sys.argv[1]))))

"""Lists and bits that the codecs of floats share.

From docs/float_fields_format.md and docs/increment_format.md alone.
"""

import numpy as np

from tests.independent.codecs import Data


def a_list(data, dtype, count):
    size, codec = data.varint(), data.read(1)[0]
    codec = ("raw", "constant", "bitpack", "deflate", "rans", "sparse")[codec]
    return getattr(Data(data.read(size)), codec)(np.dtype(dtype), count)


def tails(data, widths):
    """Values of known widths."""
    out = [0] * len(widths)
    for width in sorted(set(widths) - {0}):
        at = [i for i, w in enumerate(widths) if w == width]
        upper = data.run([width % 8] * len(at)) if width % 8 else [0] * len(at)
        planes = [data.read(len(at)) for _ in range(width // 8)]
        for i, bits, *low in zip(at, upper, *planes, strict=True):
            out[i] = bits << width // 8 * 8 | int.from_bytes(low, "little")
    return out

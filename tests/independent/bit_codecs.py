"""The codecs `huffman` and `lzw`, from docs/codec_formats.md alone."""

import math

import numpy as np

from tests.independent.codecs import unzigzag


def huffman(data, dtype, shape):
    count, low, span = math.prod(shape), data.signed(), data.varint() + 1
    if span == 1:
        return np.full(shape, low, dtype)
    lanes = data.varint() + 1
    steps = [unzigzag(step) for step in data.run([None] * span)]
    lengths = np.cumsum(steps).tolist()
    assert sum(2**15 >> n for n in lengths if n) == 2**15
    code, codes = 0, {}
    for length in range(1, 16):
        for symbol in (s for s, n in enumerate(lengths) if n == length):
            codes[f"{code:0{length}b}"] = symbol
            code += 1
        code *= 2
    sizes = data.raw(np.dtype("<u2"), lanes).tolist()
    text, place, found = bit_text(data.read()), 0, []
    for size in sizes:
        found.append([])
        end = place + size
        while place < end:
            stop = place + 1
            while text[place:stop] not in codes:
                stop += 1
            found[-1].append(codes[text[place:stop]])
            place = stop
        assert place == end
    assert len(text) - place < 8 and "1" not in text[place:]
    symbols = np.array(found).T.ravel()
    assert {*symbols[count:].tolist()} <= {next(iter(codes.values()))}
    return (symbols[:count] + low).astype(dtype).reshape(shape)


def bit_text(data):
    return "".join(f"{byte:08b}" for byte in data)


def lzw(data, size):
    text, place, strings, out = bit_text(data), 0, [], []
    for i in range(len(text)):
        width = min(255 + i, 65535).bit_length()
        if place + width > len(text):
            break
        code, place = int(text[place : place + width], 2), place + width
        if code < 256:
            out.append(bytes([code]))
        elif code - 256 < len(strings):
            out.append(strings[code - 256])
        else:
            # The string in the making: it ends as it starts.
            out.append(out[-1] + out[-1][:1])
        if i and len(strings) < 65536 - 256:
            strings.append(out[-2] + out[-1][:1])
    assert len(text) - place < 8 and "1" not in text[place:]
    return b"".join(out)

"""The simple codecs, written from docs/format.md alone."""

import io
import zlib

import numpy as np


def unzigzag(number):
    return -(number + 1) // 2 if number % 2 else number // 2


class Data(io.BytesIO):
    def varint(self):
        byte = self.read(1)[0]
        return byte if byte < 128 else byte - 128 + (self.varint() << 7)

    def signed(self):
        return unzigzag(self.varint())

    def run(self, widths):
        """What a run of bits says; a width of None is unary."""
        start, place, out = self.tell(), 0, []
        text = "".join(f"{byte:08b}" for byte in self.read())
        for width in widths:
            end = text.index("1", place) + 1 if width is None else place + width
            unary, number = end - place - 1, int("0" + text[place:end], 2)
            out.append(unary if width is None else number)
            place = end
        self.seek(start + (place + 7) // 8)
        return out

    def raw(self, dtype, count):
        return np.frombuffer(self.read(count * dtype.itemsize), dtype)

    def constant(self, dtype, count):
        bits = self.read().ljust(dtype.itemsize, b"\0")
        return np.frombuffer(bits * count, dtype)

    def deflate(self, dtype, count):
        return np.frombuffer(zlib.decompress(self.read(), -15), dtype)

    def bitpack(self, dtype, count):
        width, least = self.read(1)[0], self.signed()
        return np.array([least + v for v in self.run([width] * count)], dtype)

    def byte_planes(self, dtype, count):
        size = dtype.itemsize // (2 if dtype.kind == "c" else 1)
        count, rotated = count * dtype.itemsize // size, self.read(1)[0]
        kinds, bits = self.read(-(-size // 4)), np.zeros(count, "u8")
        for i in range(size):
            kind = kinds[i // 4] >> i % 4 * 2 & 3
            kind = ("raw", "constant", "deflate", "rans")[kind]
            length = {"raw": count, "constant": 1}.get(kind)
            if length is None and i < size - 1:
                length = self.varint()
            plane = getattr(Data(self.read(length)), kind)
            bits = bits << 8 | plane(np.dtype("u1"), count)
        bits = bits >> rotated | (bits & rotated) << (8 * size - 1)
        return bits.astype(f"<u{size}").view(dtype)

    def sparse(self, dtype, count):
        fill, some = self.varint(), self.varint()
        out = np.full(count, fill, f"<u{dtype.itemsize}").view(dtype)
        if some:
            k = self.read(1)[0]
            low, high = self.run([k] * some), self.run([None] * some)
            gaps = np.array(low) + (np.array(high) << k)
            codecs = "raw", "constant", "bitpack", "rans", "byte_planes"
            values = getattr(self, codecs[self.read(1)[0]])
            out[np.cumsum(gaps + 1) - 1] = values(dtype, some)
        return out

    def rans(self, dtype, count):
        precision, low = self.read(1)[0] + 1, self.signed()
        others = self.varint()
        if not others:
            return np.full(count, low, dtype)
        mode, lanes, start = self.varint(), self.varint() + 1, self.tell()
        steps = self.run([None] * others)
        lengths = np.cumsum([unzigzag(step) for step in steps]).tolist()
        self.seek(start)
        rest = self.run([None] * others + [max(n - 1, 0) for n in lengths])
        below = zip(lengths, rest[others:], strict=True)
        shares = [(1 << n >> 1) + v for n, v in below]
        shares.insert(mode, 2**precision - sum(shares))
        symbols = np.repeat(np.arange(others + 1), shares).tolist()
        starts = np.cumsum([0, *shares]).tolist()
        states, out = self.raw(np.dtype("<u4"), lanes).tolist(), []
        for i in range(-(-count // lanes) * lanes):
            high, slot = divmod(states[i % lanes], 2**precision)
            out.append(symbols[slot])
            state = shares[out[-1]] * high + slot - starts[out[-1]]
            if state < 2**16:
                state = state << 16 | int.from_bytes(self.read(2), "little")
            states[i % lanes] = state
        assert set(states) == {2**16} and set(out[count:]) <= {mode}
        return (np.array(out[:count]) + low).astype(dtype)

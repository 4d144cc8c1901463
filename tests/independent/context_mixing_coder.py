"""Range coder and mixer, from docs/context_mixing_format.md alone."""

import bisect
import math


def clip(x, most, least=None):
    return min(max(x, -most if least is None else least), most)


LOGISTIC = [32768]
for _x in range(1, 2816):
    # No value is so near to an integer that rounding of doubles matters.
    LOGISTIC.append(min(int(65536 / (1 + math.exp(-_x / 256))), 65535))
LOGISTIC = [65536 - v for v in LOGISTIC[:0:-1]] + LOGISTIC
STRETCH = [bisect.bisect_left(LOGISTIC, 16 * i + 8) - 2815 for i in range(4096)]


class Slot:
    """An adaptive probability of a 1."""

    __slots__ = ("age", "q")

    def __init__(self, probability, age):
        self.q, self.age = probability << 8, age

    def move(self, bit):
        q = 0xFFFFFF - self.q if bit else self.q
        q -= (q >> 7) * (131072 // (2 * self.age + 3)) >> 9
        self.q = 0xFFFFFF - q if bit else q
        self.age = min(self.age + 1, 255)


class RangeDecoder:
    def __init__(self, data):
        self.data, self.place = data, 8
        self.low, self.range = 0, 2**64 - 1
        # The number is what the bytes say, less `low`.
        self.number = int.from_bytes(data[:8].ljust(8, b"\0"), "big")

    def narrow(self, step, size):
        self.low, self.number, self.range = (
            (self.low + step) % 2**64,
            self.number - step,
            size,
        )
        if size < 2**32:
            more = self.data[self.place : self.place + 4].ljust(4, b"\0")
            self.place += 4
            self.low, self.range = self.low % 2**32 << 32, size << 32
            self.number = self.number << 32 | int.from_bytes(more, "big")

    def bit(self, probability):
        bound = (self.range >> 16) * probability
        bit = self.number < bound
        self.narrow(*(0, bound) if bit else (bound, self.range - bound))
        return int(bit)

    def raw(self, count):
        if count == 0:
            return 0
        if count > 16:
            return self.raw(16) << count - 16 | self.raw(count - 16)
        step = self.range >> count
        x = min(self.number // step, 2**count - 1)
        self.narrow(step * x, step)
        return x

    def ends(self):
        """Whether a writer would have written these bytes and no others."""
        last = self.low + self.range - 1
        zeros = next(n for n in range(64, -1, -1) if last >> n << n >= self.low)
        number = (last >> zeros << zeros) - self.low
        return (
            self.number == number
            and self.data[-1:] != b"\0"
            and len(self.data) <= self.place
        )


class Mixer:
    def __init__(self, coder):
        self.coder, self.levels = coder, 0
        self.weights = [[1 << 18] * 8 for _ in range(16)]

    def bit(self, slots, chosen):
        weights, x = self.weights[chosen], [STRETCH[s.q >> 12] for s in slots]
        dot = 4096
        for w, v in zip(weights, x, strict=True):
            dot += (w >> 8) * v
        p = LOGISTIC[clip(dot >> 13, 2815) + 2815]
        bit = self.coder.bit(p)
        rate = max(384 - 16 * (self.levels // 250), 128)
        e = ((bit << 16) - p) * rate + 512 >> 10
        for i, v in enumerate(x):
            weights[i] = clip(weights[i] + (v * e + 256 >> 9), 2**23 - 1)
        for slot in slots:
            slot.move(bit)
        return bit

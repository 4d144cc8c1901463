"""Principal components, from docs/context_mixing_format.md alone."""

import math

from tests.independent.context_mixing_coder import clip


def shifted(x, n):
    return x >> n if n >= 0 else x << -n


class Components:
    def __init__(self, places):
        self.places, self.energy, self.channels = places, 0, 0
        self.vectors = [[0] * places for _ in range(8)]
        self.energies, self.ages, self.eases = [0] * 8, [0] * 8, [0] * 8

    def begin(self):
        self.shares = [0] * 8

    def expect(self, place):
        if place < 16 or place % 8 == 0:
            self.gains = [65536 // (z + place) if z else 0 for z in self.eases]
        pairs = zip(self.shares, self.vectors, strict=True)
        return sum((b >> 11) * c[place] for b, c in pairs) >> 10

    def learn(self, place, d):
        d = clip(d, 131071)
        for j, gain in enumerate(self.gains):
            step = clip(d * gain >> 9, 131072) * self.vectors[j][place] >> 6
            self.shares[j] = clip(self.shares[j] + step, 32767 << 11)

    def end(self, x):
        self.energy += sum(v * v for v in x) // self.places
        self.channels += 1
        for j in range(min(8, self.channels)):
            x = self.turned(j, x)
        mean = self.energy // self.channels * 256
        self.eases = [self.ease(j, mean) for j in range(8)]

    def turned(self, j, x):
        energy = self.energies[j]
        if not energy:
            self.vectors[j] = x
            self.turn(j, x, 16384, 0)
        a = self.share(j, x)
        self.ages[j] += 1
        self.energies[j] += a * a
        if energy:
            n = energy.bit_length() - 14
            b = clip(shifted(a << 14, n), 131071)
            self.turn(j, x, shifted(energy, n), b)
            a = self.share(j, x)
        pairs = zip(x, self.vectors[j], strict=True)
        return [clip(v - (a * c >> 14), 8191) for v, c in pairs]

    def share(self, j, x):
        s = sum(c * v for c, v in zip(self.vectors[j], x, strict=True))
        size = min(abs(s) // (self.places << 6), 131071)
        return -size if s < 0 else size

    def turn(self, j, x, a, b):
        pairs = zip(self.vectors[j], x, strict=True)
        t = [a * c + b * v >> 10 for c, v in pairs]
        n = math.isqrt(sum(v * v for v in t) // self.places)
        if n:
            t = [clip(v, 8 * n - 1) * (2**24 // n) >> 14 for v in t]
            self.vectors[j] = t

    def ease(self, j, mean):
        if not self.ages[j]:
            return 0
        chance = mean // min(self.channels, self.places)
        p = max(self.energies[j] // self.ages[j] - chance, mean // 1024)
        return min(max(mean // p, 4), 65535) if p else 65535

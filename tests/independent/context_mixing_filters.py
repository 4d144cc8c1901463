"""What expects values, from docs/context_mixing_format.md alone."""

from tests.independent.context_mixing_coder import clip
from tests.independent.context_mixing_components import Components, shifted
from tests.independent.context_mixing_priors import lg


def class_of(x, shift, count):
    return min(max(x >> shift, 0), count - 1)


class Nothing:
    """Signs 0 and 1."""

    middle = 32

    def __init__(self, mean, places, taps):
        self.mean, self.places, self.taps = mean, places, taps
        self.f, self.x = [0] * 8, 0

    def expect(self, place, around, further, scale):
        """The expected class; sets `x`, the expected value."""
        return 0

    def nothing(self, *_):
        pass

    begin = learn = end = nothing

    def adapt(self, inputs, error, shift):
        for i, v in enumerate(inputs):
            self.f[i] = clip(self.f[i] + shifted(error * v, shift), 262136)


class Linear(Nothing):
    """Signs 2."""

    def expect(self, place, around, further, scale):
        self.a = around
        self.x = sum((f >> 3) * a for f, a in zip(self.f, around, strict=True))
        z = abs(self.x) >> 3
        return class_of(lg(z) - scale + 1024, 7, 8) if z else 0

    def learn(self, place, v, mean):
        power = sum(a * a for a in self.a)
        if power:
            n = (power + (mean >> 6) + 1).bit_length() - 1
            h = n + 2 >> 1
            self.adapt(self.a, v * 8192 - self.x >> h, n + 6 - h)


class Predicted(Nothing):
    """Signs 3."""

    middle = 64

    def __init__(self, mean, places, taps):
        super().__init__(mean, places, taps)
        self.s, self.error = 18 - mean.bit_length(), 49152
        self.components = Components(places)
        self.begin = self.components.begin

    def scaled(self, v):
        return clip(shifted(v, -self.s), 8191)

    def lgs(self, z):
        return lg(z) + 256 * (6 - self.s)

    def expect(self, place, around, further, scale):
        self.y = self.components.expect(place)
        self.i, y = [self.scaled(a) for a in around], clip(self.y >> 4, 8191)
        if self.taps == 1:
            self.i[:2] = y, self.scaled(further)
        else:
            self.i[5] = y
        total = sum((f >> 3) * v for f, v in zip(self.f, self.i, strict=True))
        self.x = self.y + (total >> 9)
        size = abs(self.x)
        return class_of(self.lgs(size) - scale + 1024, 7, 12) if size else 0

    def context(self, m):
        size = class_of(self.lgs(abs(self.x) + 1) - m + 1024, 6, 32)
        return 16 * size + class_of(self.lgs(self.error + 1) - m, 7, 16)

    def learn(self, place, v, mean):
        scaled = self.scaled(v)
        d = clip(16 * scaled - self.x, 262143)
        self.error += 16 * abs(d) - self.error >> 4
        n = (sum(i * i for i in self.i) + 1024).bit_length() - 1
        h = n + 2 >> 1
        self.adapt(self.i, d * 256 >> h, n + 4 - h)
        self.components.learn(place, 16 * scaled - self.y)

    def end(self, values):
        self.components.end([self.scaled(v) for v in values])


KINDS = Nothing, Nothing, Linear, Predicted

"""The contexts of questions, from docs/context_mixing_format.md alone."""

from tests.independent.context_mixing_filters import class_of
from tests.independent.context_mixing_priors import lg


class Surroundings:
    """Sums of magnitudes, and the contexts they make."""

    def __init__(self, model, near, expectation):
        self.model, self.around, self.expectation = model, near, expectation
        self.taps, self.inputs = near.taps, near.inputs
        self.column = [0] * (self.taps * self.inputs)
        self.tap, self.input = [0] * self.taps, [0] * self.inputs
        self.total, self.count = 32 * model.mean, 32

    def begin(self):
        self.j = len(self.around.values) - 1
        self.mean = max(self.total // self.count, 1)
        self.m, self.local = lg(self.mean), self.mean
        self.row, self.kernel = 0, [0] * self.inputs

    def add(self, place, size):
        size, (t, i) = min(size, 2**20), divmod(place, self.inputs)
        self.row += size
        self.column[place] += size
        self.input[i] += size
        self.tap[t] += size
        self.kernel[i] += size
        self.local += (size << 10) - self.local >> 3

    def end(self):
        self.total += self.row << 10
        self.count += len(self.column)

    def contexts(self, place, a):
        model, m, mean = self.model, self.m, self.mean
        t, i = divmod(place, self.inputs)
        if i == 0:
            self.before = self.tap[t]
        if place < 32 or place % 8 == 0:
            self.r = lg((self.row << 10) + 3 * mean) - lg(place + 3)
        r, k = self.r, lg((self.column[place] << 10) + mean + (mean >> 1))
        k += 256 - lg(2 * self.j + 3)
        of_taps = self.of_one_tap if self.taps == 1 else self.of_taps
        s, near, h = of_taps(t, i, k, a)
        c = class_of(r + k - m, 6, model.classes)
        further = self.around.last(place + 1)
        self.e = self.expectation.expect(place, a, further, r + k - m)
        local = class_of(lg(self.local + 1), 6, model.classes)
        if model.signs == 3:
            local = self.expectation.context(m)
        row = class_of(r - m + 1024, 7, 16)
        return (
            c,
            16 * row + class_of(k - m + 1024, 7, 16),
            local,
            near,
            model.halves * h + class_of(r + s, 7, model.halves),
            model.classes * self.e + c,
            0,
            place % 1024,
        )

    def of_one_tap(self, t, i, k, a):
        near = 2 * class_of(lg(4 * abs(a[3]) + 1), 6, 128) + (a[3] > 0)
        two = abs(a[2]) + abs(a[4]) << 9
        h = class_of(lg(two + 64) - self.m + 768, 7, 16)
        return k - self.m, near, h

    def of_taps(self, t, i, k, a):
        m, mean, j = self.m, self.mean, self.j
        s = lg((self.before << 10) + 8 * mean) - lg(j * self.inputs + 8)
        s += lg((self.input[i] << 10) + 2 * mean) - 2 * m
        s -= lg(j * self.taps + t + 2)
        near = 3 * (16 * self.near(a[0]) + self.near(a[1]))
        near += self.around.left + self.around.up
        h = lg((self.kernel[i] << 10) + mean) + 768 - m - lg(t + 1)
        return s, near, class_of(h, 7, 16) if t else 15

    def near(self, v):
        size = lg(4 * abs(v) + 1) - self.m + 2560 >> 8
        return 2 * min(max(size, 1), 7) + (v > 0) if v else 0

"""Units and groups of `float_residual`, from docs/increment_format.md alone."""

import math

LEAST = {
    "float16": (11, -24),
    "bfloat16": (8, -133),
    "float32": (24, -149),
    "float64": (53, -1074),
    "float8_e4m3fn": (4, -9),
    "float8_e5m2": (3, -16),
}


class Element:
    def __init__(self, base, step, still, p, e, guard):
        self.base, self.p, self.e = base, p, e
        last = max(math.frexp(base)[1] - p, e) if base else e
        self.unit = last if still else max(last, (step >> 1) - guard)
        # Not by ldexp: a power of two may be too large for a float.
        numerator, denominator = abs(base).as_integer_ratio()
        numerator <<= max(-self.unit, 0)
        self.number = numerator // (denominator << max(self.unit, 0))
        self.number = -self.number if base < 0 else self.number
        self.level = step - 2 * self.unit
        self.group = min(max(self.level, -8), 7) + 9
        if self.level >= 8:
            self.group = 17 + self.level % 2
        self.group = 0 if still else self.group

    def tail_bits(self):
        bits = abs(self.number).bit_length()
        last = max(bits + self.unit - self.p, self.e)
        return max(0, self.unit - last) if bits else 0

    def value(self, width, tail):
        size = math.ldexp((abs(self.number) << width) + tail, self.unit - width)
        return math.copysign(size, self.number)


def merge(elements):
    counts = [0] * 19
    for x in elements:
        counts[x.group] += 1
    starts, filled = [], 160
    for group in range(1, 17):
        if filled >= 160:
            starts.append(group)
            filled = 0
        filled += counts[group]
    if filled < 160 and len(starts) > 1:
        starts.pop()
    for x in elements:
        if 0 < x.group < 17:
            x.group = max(s for s in starts if s <= x.group)
        elif x.group == 18 and counts[17] + counts[18] < 320:
            x.group = 17

"""What models start with, from docs/context_mixing_format.md alone."""

import bisect
import functools
import math
from decimal import Decimal, localcontext

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097")


def first(bucket):
    return bucket if bucket < 8 else 4 + (bucket & 3) << (bucket >> 2) - 1


LOGARITHMS = [int(1024 * math.log2(1 + i / 256)) + 2 >> 2 for i in range(256)]


def lg(x):
    n = x.bit_length() - 1
    return 256 * n + LOGARITHMS[(x << 8 >> n) & 255]


def E(i):
    """The eighth root of `2 ** (i + 48)`."""
    return math.isqrt(math.isqrt(math.isqrt(1 << i + 48)))


@functools.cache
def survival():
    with localcontext() as context:
        context.prec = 50
        step, out = Decimal(1) / 64, []
        phi = [(-((j * step) ** 2) / PI).exp() for j in range(2561)]
        areas = [Decimal(0)]
        for j in reversed(range(2560)):
            areas.append(areas[-1] + phi[j] + phi[j + 1])
        for i, area in enumerate(reversed(areas)):
            both = 35 * (-i * step).exp() + 65 * area / areas[-1]
            out.append(max(int(2**44 * both / 100), 1))
    return out


def survive(doubled, mean):
    s, z = survival(), min(max((doubled << 29) // mean, 0), 655359)
    i = z >> 8
    return s[i] + ((s[i + 1] - s[i]) * (z & 255) >> 8)


def edge(level, grid, more):
    if level == 0:
        return 0
    lowest = {None: 2 * level - 1, 0: 4 * level - 2, 1: max(4 * level - 4, 1)}
    return lowest[grid] + more


def signed(x):
    return (x + 2**63) % 2**64 - 2**63


@functools.cache
def means(buckets, classes, hole, more):
    count = min(max(buckets + 12, 24), 120)
    f = [first(b) for b in range(count + 1)]
    w = [f[b + 1] - f[b] for b in range(1, count)] + [f[-1] - f[-2]]
    grid, reached = [E(i) for i in range(24, 2 * classes + 32)], []
    for mean in grid:
        t = [survive(edge(a, None, more), mean) >> 14 for a in f[1:]]
        t.append(t[-1] // 2)
        total = 2 * (hole - 1) * t[0]
        for b, width in enumerate(w):
            total += (width + 1) * t[b] + (width - 1) * t[b + 1]
        reached.append(max([total >> 15, *reached[-1:]]))
    out = []
    for c in range(classes):
        v = E(2 * c + 1)
        i = min(max(bisect.bisect_left(reached, v), 1), len(grid) - 1)
        below, g = reached[i - 1], grid[i - 1]
        x = signed(v - below << 16) // max(reached[i] - below, 1)
        x = min(max(x, 0), 65536)
        out.append(g + (signed((grid[i] - g) * x) >> 16))
    return out


def ratio(x, y):
    return min(max((x << 16) // y, 24), 65512) if y > 4096 else 32768

"""The tables of `class_rans`, from docs/class_rans_format.md alone."""

import functools
import math

import numpy as np

from tests.independent.codecs import unzigzag


class Bits:
    def __init__(self, data):
        self.start, self.place = data.tell(), 0
        self.text = "".join(f"{byte:08b}" for byte in data.read())

    def number(self, width):
        self.place += width
        return int("0" + self.text[self.place - width : self.place], 2)

    def unary(self):
        zeros = self.text.index("1", self.place) - self.place
        self.place += zeros + 1
        return zeros

    def end(self, data):
        data.seek(self.start + (self.place + 7) // 8)


def exponents(bits, count):
    k, middle = bits.number(3), bits.number(8) - 128
    high = [bits.unary() for _ in range(count)]
    return [middle + unzigzag(h << k | bits.number(k)) for h in high]


@functools.cache
def family(sigma, shape):
    """The weights of the distances 0 to 255."""
    one, scale = 1 << 31, 2 ** (sigma / 8 - 3)
    a = math.floor(one * math.exp(-math.sqrt(2) / scale))
    g = math.floor(one * math.exp(-1 / (2 * scale**2)))
    square = g * g >> 31
    laplace, gauss = [one], [one]
    for _ in range(255):
        laplace.append(laplace[-1] * a >> 31)
        gauss.append(gauss[-1] * g >> 31)
        g = g * square >> 31
    mixed = [
        [(f << 31) // (2 * sum(kind) - kind[0]) for f in kind]
        for kind in (laplace, gauss)
    ]
    return [shape * x + (7 - shape) * y for x, y in zip(*mixed, strict=True)]


def table(bits, tokens, escape, low, shift):
    """Where the tokens' shares of 4096 start, and 4096."""
    kind = bits.number(2)
    shares = (
        explicit(bits, tokens)
        if kind == 0
        else fitted(bits, kind, tokens, escape, low, shift)
    )
    return np.cumsum([0, *shares])


def explicit(bits, tokens):
    digits, mode = bits.number(4), bits.number((tokens - 1).bit_length())
    steps = [unzigzag(bits.unary()) for _ in range(tokens - 1)]
    shares = []
    for length in np.cumsum(steps).tolist():
        kept = min(digits, max(length - 1, 0))
        share = bits.number(kept) + (1 << kept) << max(length - 1, 0) - kept
        shares.append(share if length else 0)
    shares.insert(mode, 4096 - sum(shares))
    return shares


def fitted(bits, kind, tokens, escape, low, shift):
    values = tokens - escape
    centre = min(max(-low >> shift, 0), values - 1)
    middle = bits.number(12) if kind == 2 else 0
    w = family(bits.number(7), bits.number(3))
    if kind == 3:
        centre += bits.number(7) - 64
    weights = [w[min(abs(t - centre), 255)] for t in range(values)]
    total = 2 * sum(w) - w[0]
    if kind == 2:
        weights[centre], total = 0, total - w[0]
    if escape:
        weights.append(total - sum(weights))
    whole, total = 4096 - middle, sum(weights)
    shares = [(x * whole + total // 2) // total for x in weights]
    if escape:
        shares[-1] = max(shares[-1], 1)
    shares[shares.index(max(shares))] += whole - sum(shares)
    shares[centre] += middle
    return shares

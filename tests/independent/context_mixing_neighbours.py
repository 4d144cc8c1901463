"""Neighbours and their signs, from docs/context_mixing_format.md alone."""


class Neighbours:
    """What lies around an element of the last channel of `values`."""

    def __init__(self, sizes, width):
        _, self.taps, self.inputs = sizes
        self.row, self.width, self.values = width * self.inputs, width, []

    def around(self, place):
        self.t = place // self.inputs
        n, row, here = self.inputs, self.row, self.values[-1]
        self.left = self.taps > 1 and self.t % self.width > 0
        self.up = self.taps > 1 and self.t >= self.width

        def back(distance, there=True):
            return here[place - distance] if there and place >= distance else 0

        both = self.left and self.up
        return [
            back(n, self.left),
            back(row, self.up),
            back(1),
            self.last(place),
            back(n + row if both else 2),
            back(128, self.taps == 1),
            self.last(place, 3),
            back(4),
        ]

    def last(self, place, channel=2):
        if len(self.values) < channel or place == len(self.values[0]):
            return 0
        return self.values[-channel][place]

    def sign_contexts(self, place, level, a, expectation, e):
        g = [(v > 0) + 2 * (v < 0) for v in a[:4]]
        x, middle = 4 * e, expectation.middle
        x = middle - x if expectation.x < 0 else middle + x
        third = 3 * g[3] + g[2]
        if self.taps > 1:
            third = (9 * self.t + 3 * g[0] + g[1]) % 576
        return (
            0,
            9 * g[2] + 3 * g[0] + g[1],
            x,
            place % 4096,
            third,
            2 * x + min(level, middle // 8 - 1),
            27 * g[2] + 9 * g[3] + 3 * g[0] + g[1],
            place % self.inputs % 1024,
        )

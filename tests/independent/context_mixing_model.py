"""A model's parameters and what they start its slots with."""

import functools

from tests.independent.context_mixing_coder import Slot
from tests.independent.context_mixing_priors import (
    E,
    edge,
    first,
    means,
    ratio,
    survive,
)

# The sets of weights, and the least buckets they are for.
SETS = {
    (0, 0): ((10, 4), (4, 3), (1, 2), (0, 1)),
    (1, 0): ((8, 8), (4, 7), (2, 6), (0, 5)),
    (2, 0): ((10, 11), (4, 10), (0, 9)),
    (0, 1): ((1, 2), (0, 14)),
    (1, 1): ((2, 6), (0, 15)),
    (2, 1): ((0, 9),),
}
AGES = (8, 6, 6, 1, 6, 6, 1, 1)


class Model:
    def __init__(self, buckets, top, mean_class, hole, shift, signs, memory):
        self.buckets, self.top, self.memory = buckets, top, memory
        self.mean_class, self.hole, self.signs = mean_class, hole, signs
        self.more = 2 * hole - 2 + shift
        self.classes = 4 * (11 + first(buckets).bit_length())
        self.halves = self.classes + 1 >> 1
        self.mean = max(E(2 * mean_class + 1) >> 6, 1)
        self.means = means(buckets, self.classes, hole, self.more)
        self.first = [first(b) for b in range(buckets + 1)]
        if top:
            self.first[-2:] = top, top + 1
        self.above = functools.cache(self.above)

    def survive(self, level, grid, c):
        if not self.memory:
            grid = None
        return survive(edge(level, grid, self.more), self.means[c])

    def above(self, grid, c):
        return [self.survive(level, grid, c) for level in self.first]

    def start(self, grid, c):
        p = self.above(grid, c)
        return sum(2 * x >= p[0] for x in p[1:-2])

    def half(self, c, b):
        p = self.above(0, c)
        middle = self.survive(self.first[b] + self.first[b + 1] >> 1, 0, c)
        return Slot(ratio(middle - p[b + 1], p[b] - p[b + 1]), 8)

    def slot(self, context, value, kind, u, grid):
        """The slot of a context for the node `3 * u + kind`, at first."""
        p = self.above(grid, self.class_of(context, value))
        if kind == 2:
            share = ratio(p[0] - p[u], p[0] - p[u + 1])
        else:
            share = ratio(p[u + 1], p[u] if kind else p[0])
        young = context == 2 and self.signs == 3
        return Slot(share, 1 if young else AGES[context])

    def class_of(self, context, value):
        c = self.mean_class
        if context == 0 or (context == 2 and self.signs < 3):
            c = value
        elif context == 1:
            c += 2 * (value >> 4) + 2 * (value & 15) - 31
        elif context == 4:
            c = 2 * (value % self.halves)
        elif context == 5:
            c = value % self.classes
        return min(max(c, 0), self.classes - 1)


def chosen_set(kind, u, grid):
    sets = SETS[kind, grid if u < 4 else 0]
    return next(number for least, number in sets if u >= least)

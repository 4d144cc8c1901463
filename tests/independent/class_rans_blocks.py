"""Decodes a block of `class_rans`, from docs/class_rans_format.md alone."""

import dataclasses

import numpy as np

from tests.independent.geometry import next_state


@dataclasses.dataclass
class Coding:
    """What all blocks share; `exponents` are of channels, inputs and taps."""

    low: int
    shift: int
    tables: list
    escape: tuple | None
    memory: int
    near: tuple | None
    classes: int
    merge: int
    exponents: list

    def chosen(self, channel, place, levels, state):
        """The table of an element."""
        of_channels, of_inputs, of_taps = self.exponents
        tap, i = divmod(place, len(of_inputs))
        total = of_channels[channel] + of_inputs[i] + of_taps[tap]
        most = (self.classes << self.merge) - 1
        chosen = min(max(total, 0), most) >> self.merge
        if self.near:
            distance, threshold = self.near
            v = levels.get((channel, place - distance), 0)
            chosen = chosen * 5 + 2 + (v > 0) - (v < 0)
            chosen += (v > threshold) - (v < -threshold)
        return 2 * chosen + (state & 1) if self.memory else chosen


class Lanes:
    def __init__(self, states, words):
        self.states, self.words = states, words[::-1]

    def step(self, lane, shares):
        high, slot = divmod(self.states[lane], 4096)
        token = int(np.searchsorted(shares, slot, "right")) - 1
        start, end = shares[token : token + 2].tolist()
        x = (end - start) * high + slot - start
        self.states[lane] = x if x >> 16 else x << 16 | self.words.pop()
        return token


def decode_block(coding, rows, lanes, machine):
    """The values of a block, by channel and place."""
    levels, values = {}, {}
    for row in rows:
        found = []
        for lane, (channel, place) in enumerate(row):
            chosen = coding.chosen(channel, place, levels, machine[lane])
            token = lanes.step(lane, coding.tables[chosen])
            found.append((token, coding.low, coding.shift))
        for lane, (token, *_) in enumerate(found):
            if coding.escape and token == len(coding.tables[0]) - 2:
                table, low, shift = coding.escape
                found[lane] = lanes.step(lane, table), low, shift
        for lane, (token, low, shift) in enumerate(found):
            level = low + (token << shift)
            if shift:
                shares = np.arange((1 << shift) + 1) * (4096 >> shift)
                level += lanes.step(lane, shares)
            levels[row[lane]] = values[row[lane]] = level
            if coding.memory:
                sign = (level > 0) - (level < 0)
                values[row[lane]] = 2 * level - sign * (machine[lane] & 1)
                machine[lane] = next_state(machine[lane], level, coding.memory)
    assert not lanes.words and set(lanes.states) == {1 << 16}
    return values

"""A block of `context_mixing`, from docs/context_mixing_format.md alone."""

from tests.independent.context_mixing_coder import Mixer, RangeDecoder, Slot
from tests.independent.context_mixing_contexts import Surroundings
from tests.independent.context_mixing_filters import KINDS
from tests.independent.context_mixing_model import chosen_set
from tests.independent.context_mixing_neighbours import Neighbours
from tests.independent.context_mixing_priors import first
from tests.independent.geometry import next_state


class Scan:
    def __init__(self, model, data, sizes, width, states, channel):
        self.model, self.states, self.channel = model, states, channel
        self.sizes, self.slots = sizes, {}
        self.coder = RangeDecoder(data)
        self.mixer = Mixer(self.coder)
        places = sizes[1] * sizes[2]
        self.expectation = KINDS[model.signs](model.mean, places, sizes[1])
        self.near = Neighbours(sizes, width)
        self.about = Surroundings(model, self.near, self.expectation)

    def slot(self, *key, new):
        if key not in self.slots:
            self.slots[key] = new()
        return self.slots[key]

    def run(self):
        """The values of each channel."""
        for channel in range(self.channel, self.channel + self.sizes[0]):
            self.near.values.append([])
            self.about.begin()
            self.expectation.begin()
            for place in range(len(self.about.column)):
                self.element(channel, place)
            self.expectation.end(self.near.values[-1])
            self.about.end()
        assert self.coder.raw(8) == 0xA5 and self.coder.ends()
        return self.near.values

    def element(self, channel, place):
        about, grid = self.about, 0
        if self.states:
            chain = channel % len(self.states)
            grid = self.states[chain] & 1
        a = self.near.around(place)
        level = self.level(about.contexts(place, a), grid)
        size = level + self.model.hole - 1 if level else 0
        if self.states:
            size = 2 * level - (grid if level else 0)
            after = next_state(self.states[chain], level, self.model.memory)
            self.states[chain] = after
        v = -size if level and self.sign(place, level, a) else size
        self.near.values[-1].append(v)
        self.expectation.learn(place, v, about.mean)
        about.add(place, size)
        self.mixer.levels += 1

    def ask(self, contexts, grid, kind, u):
        odd, slots = grid if u < 4 else 0, []
        for i, value in enumerate(contexts):
            key = i, value, kind, u, odd
            if key not in self.slots:
                self.slots[key] = self.model.slot(*key)
            slots.append(self.slots[key])
        return self.mixer.bit(slots, chosen_set(kind, u, odd))

    def level(self, contexts, grid):
        model, c = self.model, contexts[0]
        u, last = model.start(grid, c), model.buckets - 1
        if self.ask(contexts, grid, 0, u):
            u += 1
            while u < last and self.ask(contexts, grid, 1, u):
                u += 1
        else:
            while u > 0 and self.ask(contexts, grid, 2, u):
                u -= 1
        if model.top and u == last:
            return model.top
        if u < 8:
            return u
        slot = self.slot(c, u, new=lambda: model.half(c, u))
        upper = self.coder.bit(min(max(slot.q >> 8, 1), 65535))
        slot.move(upper)
        count = (u >> 2) - 2
        level = first(u) + (upper << count) + self.coder.raw(count)
        assert not model.top or level < model.top
        return level

    def sign(self, place, level, a):
        if self.model.signs == 0:
            return self.coder.raw(1)
        expected = self.expectation, self.about.e
        values = self.near.sign_contexts(place, level, a, *expected)
        slots = [
            self.slot("sign", *pair, new=lambda: Slot(32768, 1))
            for pair in enumerate(values)
        ]
        return self.mixer.bit(slots, 0)

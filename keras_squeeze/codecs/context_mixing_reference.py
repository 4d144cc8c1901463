"""The model of `context_mixing`, in Python.

Levels are coded channel by channel, tap by tap, input by input. Eight
contexts each hold an adaptive probability for the question at hand; they are
mixed in the logistic domain by weights that learn from every answer. All
arithmetic is that of integers, `>>` rounds down. The compiled kernel in
`native/source/context_mixing.c` gives the same bytes, a thousand times faster;
`docs/context_mixing_format.md` specifies them.

References:
    - Mahoney, Adaptive weighing of context models for lossless data
      compression, 2005.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import context_mixing_model as models
from keras_squeeze.codecs import context_mixing_tables as tables
from keras_squeeze.codecs.context_mixing_coder import Decoder, Encoder
from keras_squeeze.codecs.context_mixing_mixer import Mixer
from keras_squeeze.codecs.context_mixing_model import Model
from keras_squeeze.codecs.context_mixing_prediction import (
    Filter,
    Prediction,
    Weight,
)
from keras_squeeze.errors import SqueezeError

_LARGEST_COUNTED = 1 << 20
_TERMINATOR = 0xA5


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known of a weight before its tap is coded."""

    column: int
    second: int
    kernel: int
    neighbours: int


class Scan:
    """Codes the values of one block.

    Args:
        model: `Model`.
        values: int32 array of shape `(channels, taps, inputs)`; written to
            where the coder is a `Decoder`.
        width: Integer, the taps of a row.
        coder: `Encoder` or `Decoder`.
        states: Optional uint8 array, the state of every chain of the
            trellis; changed in place.
        first_channel: Integer, which chain the first channel belongs to.
            Defaults to `0`.
    """

    def __init__(
        self,
        model: Model,
        values: np.ndarray,
        width: int,
        coder: Encoder | Decoder,
        states: np.ndarray | None = None,
        first_channel: int = 0,
    ) -> None:
        self._model = model
        self._width = width
        self._coder = coder
        self._states = states
        self._first_channel = first_channel
        channels, self._taps, self._inputs = values.shape
        self._out = values
        self._values = values.reshape(channels, -1).tolist()
        self._prepare_tables()
        self._prepare_contexts()
        self._columns = [0] * (self._taps * self._inputs)
        self._input_sums = [0] * self._inputs
        self._tap_sums = [0] * self._taps
        self._total, self._total_count = 32 * model.mean, 32
        self._legal = True
        self._filter = self._prediction = None
        if model.sign_mode == models.FILTERED_SIGNS:
            self._filter = Filter()
        if model.sign_mode == models.PREDICTED_SIGNS:
            places = self._taps * self._inputs
            self._prediction = Prediction(model.mean, places, self._taps)

    def _prepare_tables(self) -> None:
        model, trellis = self._model, bool(self._model.states)
        self._mixer = Mixer(self._coder)
        self._sets = models.mixer_sets(model.buckets, trellis).tolist()
        self._starts = model.priors.starts.tolist()
        self._halves = model.priors.halves.tolist()
        machine = model.next_states
        self._next_states = None if machine is None else machine.tolist()

    def _prepare_contexts(self) -> None:
        model = self._model
        nodes = model.priors.nodes.tolist()
        sizes = model.context_sizes(self._taps, self._inputs)
        self._nodes = [
            [
                [p | age for p in nodes[model.prior_class(context, index)]]
                for index in range(sizes[context])
            ]
            for context, age in enumerate(model.starting_ages)
        ]
        self._signs = [1 << 31 | 1] * models.SIGN_SLOTS

    def run(self) -> bool:
        """Codes all values, and a terminator by which damage is noticed.

        Returns:
            Whether the terminator was as expected, and every level legal.
        """
        for index in range(len(self._values)):
            self._begin_channel(index)
            for tap in range(self._taps):
                plans = self._plan_tap(index, tap)
                for place, plan in enumerate(plans, tap * self._inputs):
                    self._code(index, tap, place, plan)
            if self._prediction is not None:
                self._prediction.learn_channel(self._values[index])
            self._total += self._row << 10
            self._total_count += self._row_count
        if self._coder.decoding:
            shape = self._out.shape
            self._out[...] = np.array(self._values, np.int32).reshape(shape)
        return self._coder.raw(_TERMINATOR, 8) == _TERMINATOR and self._legal

    def _begin_channel(self, index: int) -> None:
        self._mean = max(self._total // self._total_count, 1)
        self._log_mean = _log(self._mean)
        self._log_channels = _log(2 * index + 3) - 256
        self._row = self._row_count = 0
        self._local = self._mean
        self._kernels = [0] * self._inputs
        if self._prediction is not None:
            self._prediction.begin_channel()

    def _plan_tap(self, index: int, tap: int) -> list[_Plan]:
        first = tap * self._inputs
        places = range(first, first + self._inputs)
        weak = self._mean + (self._mean >> 1)
        columns = [
            _log((self._columns[p] << 10) + weak) - self._log_channels
            for p in places
        ]
        if self._taps > 1:
            return self._plan_convolution(index, tap, columns)
        return self._plan_dense(index, columns)

    def _plan_dense(self, index: int, columns: list[int]) -> list[_Plan]:
        last = self._values[index - 1] if index else [0] * self._inputs
        return [
            _Plan(
                column,
                column - self._log_mean,
                0,
                2 * _class_of(_log(4 * abs(value) + 1), 6, 128) + (value > 0),
            )
            for column, value in zip(columns, last, strict=True)
        ]

    def _plan_convolution(
        self, index: int, tap: int, columns: list[int]
    ) -> list[_Plan]:
        mean, inputs = self._mean, self._inputs
        share = _log((self._tap_sums[tap] << 10) + 8 * mean)
        share -= _log(index * inputs + 8) + 2 * self._log_mean
        share -= _log(index * self._taps + tap + 2)
        before = 768 - self._log_mean - _log(tap + 1)
        plans = []
        for i, column in enumerate(columns):
            second = _log((self._input_sums[i] << 10) + 2 * mean)
            kernel = 15
            if tap:
                size = _log((self._kernels[i] << 10) + mean)
                kernel = _class_of(size + before, 7, 16)
            near = self._neighbour_class(index, tap, tap * inputs + i)
            plans.append(_Plan(column, share + second, kernel, near))
        return plans

    def _neighbour_class(self, index: int, tap: int, place: int) -> int:
        channel = self._values[index]
        has_left, has_up = self._has_left(tap), self._has_up(tap)
        left = channel[place - self._inputs] if has_left else 0
        up = channel[place - self._width * self._inputs] if has_up else 0
        pair = self._near_class(left) * 16 + self._near_class(up)
        return pair * 3 + has_left + has_up

    def _near_class(self, value: int) -> int:
        if value == 0:
            return 0
        size = _log(4 * abs(value) + 1) - self._log_mean
        return 2 * min(max(size + 2560 >> 8, 1), 7) + (value > 0)

    def _has_left(self, tap: int) -> bool:
        return self._taps > 1 and tap % self._width != 0

    def _has_up(self, tap: int) -> bool:
        return self._taps > 1 and tap >= self._width

    def _code(self, index: int, tap: int, place: int, plan: _Plan) -> None:
        around = self._around(index, tap, place)
        weight = Weight(tap, place - tap * self._inputs, place, around)
        if index and place + 1 < len(self._values[index]):
            weight.next_before = self._values[index - 1][place + 1]
        contexts = self._contexts(weight, plan)
        chain = 0
        if self._states is not None:
            chain = (self._first_channel + index) % len(self._states)
            weight.odd = bool(self._states[chain] & 1)
        value = self._values[index][place]
        level = self._code_level(weight, contexts, self._level(weight, value))
        size = self._size(weight, level)
        if not self._coder.decoding and size != abs(value):
            raise SqueezeError(
                "Expected codes of the given trellis. Received: "
                f"{value} on grid Q{int(weight.odd)}, channel={index}"
            )
        if level:
            negative = self._code_sign(weight, level, value < 0)
            value = -size if negative else size
        else:
            value = 0
        self._values[index][place] = value
        if self._states is not None and self._next_states is not None:
            state = int(self._states[chain])
            self._states[chain] = self._next_states[state][level & 1]
        if self._filter is not None:
            self._filter.learn(weight, value, self._mean)
        if self._prediction is not None:
            self._prediction.learn(weight, value)
        self._add(weight, size)

    def _level(self, weight: Weight, value: int) -> int:
        if self._states is not None:
            return (abs(value) + weight.odd) >> 1
        return abs(value) - (self._model.hole - 1) if value else 0

    def _size(self, weight: Weight, level: int) -> int:
        if self._states is not None:
            return 2 * level - bool(weight.odd and level)
        return level + self._model.hole - 1 if level else 0

    def _around(self, index: int, tap: int, place: int) -> list[int]:
        channel, inputs = self._values[index], self._inputs
        row = self._width * inputs
        left, up = self._has_left(tap), self._has_up(tap)
        second = channel[place - 2] if place > 1 else 0
        return [
            channel[place - inputs] if left else 0,
            channel[place - row] if up else 0,
            channel[place - 1] if place else 0,
            self._values[index - 1][place] if index else 0,
            channel[place - inputs - row] if left and up else second,
            channel[place - 128] if self._taps == 1 and place >= 128 else 0,
            self._values[index - 2][place] if index > 1 else 0,
            channel[place - 4] if place > 3 else 0,
        ]

    def _contexts(self, weight: Weight, plan: _Plan) -> list[int]:
        classes, halves = self._model.classes, self._model.half_classes
        if self._row_count < 32 or self._row_count % 8 == 0:
            self._log_row = _log((self._row << 10) + 3 * self._mean)
            self._log_row -= _log(self._row_count + 3)
        weight.log_scale = self._log_row + plan.column - self._log_mean
        weight.scale_class = _class_of(weight.log_scale, 6, classes)
        kernel = plan.kernel
        if self._taps == 1:
            two = abs(weight.around[2]) + abs(weight.around[4])
            near = _log((two << 9) + 64) - self._log_mean
            kernel = _class_of(near + 768, 7, 16)
        local = _class_of(_log(self._local + 1), 6, classes)
        if self._filter is not None:
            self._filter.expect(weight)
        if self._prediction is not None:
            self._prediction.expect(weight)
            local = self._prediction.context(weight, self._log_mean)
        row = _class_of(self._log_row - self._log_mean + 1024, 7, 16)
        column = _class_of(plan.column - self._log_mean + 1024, 7, 16)
        return [
            weight.scale_class,
            row * 16 + column,
            local,
            plan.neighbours,
            kernel * halves + _class_of(self._log_row + plan.second, 7, halves),
            weight.mean_class * classes + weight.scale_class,
            0,
            weight.place % models.PLACES,
        ]

    def _code_level(
        self, weight: Weight, contexts: list[int], level: int
    ) -> int:
        top, last = self._model.top, self._model.buckets - 1
        bucket = last if level == top > 0 else tables.bucket_of(level)
        bucket = self._code_bucket(weight, contexts, bucket)
        if top and bucket == last:
            return top
        first = tables.bucket_start(bucket)
        if bucket < tables.EXACT:
            return first
        slots = self._halves[weight.scale_class]
        count = (bucket >> 2) - 2
        rest = level - first
        probability = min(max(slots[bucket] >> 16, 1), 65535)
        upper = self._coder.bit(probability, rest >> count & 1)
        slots[bucket] = self._mixer.slot_after(slots[bucket], upper)
        rest &= (1 << count) - 1
        if count:
            rest = self._coder.raw(rest, count)
        level = first + (upper << count) + rest
        self._legal &= not top or level < top
        return level

    def _code_bucket(
        self, weight: Weight, contexts: list[int], bucket: int
    ) -> int:
        def bit(node: int, answer: bool) -> int:
            if weight.odd and node < 12:
                node += 3 * self._model.buckets
            slots = [
                nodes[context]
                for nodes, context in zip(self._nodes, contexts, strict=True)
            ]
            return self._mixer.bit(slots, [node] * 8, self._sets[node], answer)

        last = self._model.buckets - 1
        at = int(self._starts[weight.odd][weight.scale_class])
        if bit(3 * at, bucket > at):
            at += 1
            while at < last and bit(3 * at + 1, bucket > at):
                at += 1
        else:
            while at > 0 and bit(3 * at + 2, bucket < at):
                at -= 1
        return at

    def _code_sign(self, weight: Weight, level: int, negative: bool) -> int:
        if self._model.sign_mode == models.RAW_SIGNS:
            return self._coder.raw(int(negative), 1)
        places = self._sign_places(weight, level)
        return self._mixer.bit([self._signs] * 8, places, 0, negative)

    def _sign_places(self, weight: Weight, level: int) -> list[int]:
        signs = ((v > 0) + 2 * (v < 0) for v in weight.around)
        left, up, before, last, *_ = signs
        middle = 32 if self._prediction is None else 64
        mean = 4 * weight.mean_class
        mean = middle - mean if weight.expected < 0 else middle + mean
        if self._taps > 1:
            third = (weight.tap * 9 + left * 3 + up) % 576
        else:
            third = last * 3 + before
        contexts = (
            *(0, before * 9 + left * 3 + up, mean, weight.place & 4095),
            *(third, mean * 2 + min(level, middle // 8 - 1)),
            before * 27 + last * 9 + left * 3 + up,
            weight.input & 1023,
        )
        return [
            start + context
            for start, context in zip(models.SIGN_STARTS, contexts, strict=True)
        ]

    def _add(self, weight: Weight, size: int) -> None:
        size = min(size, _LARGEST_COUNTED)
        self._row += size
        self._row_count += 1
        self._columns[weight.place] += size
        self._input_sums[weight.input] += size
        self._tap_sums[weight.tap] += size
        self._kernels[weight.input] += size
        self._local += (size << 10) - self._local >> 3
        self._mixer.count += 1


_log = tables.logarithm


def _class_of(logarithm: int, shift: int, count: int) -> int:
    return min(max(logarithm >> shift, 0), count - 1)

"""The constants of `context_mixing`, computed by integer arithmetic alone.

Nothing here depends on a machine's floating point, so the tables are equal
everywhere. The reference in Python and the compiled kernel read the same
arrays and cannot disagree about them.

Probabilities are those of a 1, in units of 2**-16. The logistic domain has 256
units a nat, logarithms have 256 units an octave.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

#: The logistic domain is `-DOMAIN..DOMAIN`.
DOMAIN = 2815
#: Scale classes are quarter octaves from `2**-SCALE_OCTAVES` on.
SCALE_OCTAVES = 10
#: The number of ages of an adaptive probability.
AGES = 256
#: Buckets below this hold one magnitude, four an octave follow.
EXACT = 8

# Fixed point of the exact arithmetic.
_PLACES = 96
_ONE = 1 << _PLACES
# The survival function is tabulated in steps of 1/64 up to 40 means.
_STEPS = 64
_REACH = 40
_SURVIVAL_PLACES = 44
# Percent of a Laplace in the shape of weights; the rest is Gaussian.
_LAPLACE = 35
# A prior is never surer than this, in units of 2**-16.
_LEAST = 24
_AGE_OF_HALVES = 8


def _multiply(a: int, b: int) -> int:
    return (a * b) >> _PLACES


def _exp_minus(numerator: int, denominator: int) -> int:
    """`exp(-numerator / denominator)` for quotients below 1, by its series."""
    term, total, index = _ONE, 0, 0
    while term:
        total += term if index % 2 == 0 else -term
        index += 1
        term = term * numerator // (denominator * index)
    return total


def _arctangent_of_inverse(x: int) -> int:
    power, total, index = _ONE // x, 0, 1
    while power:
        total += power // index if index % 4 == 1 else -(power // index)
        power //= x * x
        index += 2
    return total


def _pi() -> int:
    """By Machin's formula."""
    return 16 * _arctangent_of_inverse(5) - 4 * _arctangent_of_inverse(239)


@functools.cache
def squash() -> np.ndarray:
    """The logistic function: int32 array of shape `(2 * DOMAIN + 1,)`."""
    step, power = _exp_minus(1, 256), _ONE
    table = np.zeros(2 * DOMAIN + 1, np.int32)
    for x in range(DOMAIN + 1):
        value = min((_ONE << 16) // (_ONE + power), 65535)
        table[DOMAIN + x], table[DOMAIN - x] = value, 65536 - value
        power = _multiply(power, step)
    return table


@functools.cache
def stretch() -> np.ndarray:
    """The inverse of `squash` at the middles of 4096 equal cells, int32."""
    middles = np.arange(4096) * 16 + 8
    return (np.searchsorted(squash(), middles) - DOMAIN).astype(np.int32)


@functools.cache
def rates() -> np.ndarray:
    """How far a probability of an age moves, int32 in units of 2**-16."""
    return (131072 // (2 * np.arange(AGES) + 3)).astype(np.int32)


@functools.cache
def logarithms() -> np.ndarray:
    """`256 * log2(1 + i / 256)` for 256 indices, int32."""
    table = np.zeros(256, np.int32)
    for index in range(256):
        mantissa, value = 256 + index << 23, 0
        for _ in range(10):
            mantissa = mantissa * mantissa >> 31
            value *= 2
            if mantissa >> 32:
                mantissa, value = mantissa >> 1, value + 1
        table[index] = value + 2 >> 2
    return table


@functools.cache
def _logarithms() -> list[int]:
    return [int(x) for x in logarithms()]


def logarithm(x: int) -> int:
    """`256 * log2(x)` of an integer, at least 1."""
    place = x.bit_length() - 1
    return 256 * place + _logarithms()[(x << 8 >> place) & 255]


def bucket_start(bucket: int) -> int:
    """The least magnitude of a bucket: 0..7, 8, 10, 12, 14, 16, 20, ..."""
    if bucket < EXACT:
        return bucket
    return 4 + (bucket & 3) << (bucket >> 2) - 1


def bucket_of(magnitude: int) -> int:
    """The bucket a magnitude lies in."""
    if magnitude < EXACT:
        return magnitude
    octave = magnitude.bit_length() - 1
    return 4 * octave - 4 + (magnitude >> octave - 2 & 3)


def class_count(buckets: int) -> int:
    """The number of scale classes where magnitudes fill so many buckets."""
    return 4 * (SCALE_OCTAVES + 1 + bucket_start(buckets).bit_length())


@functools.cache
def _survival() -> np.ndarray:
    """P(|w| >= x) of weights whose mean magnitude is 1, in steps of 1/64."""
    laplace_step, laplace = _exp_minus(1, _STEPS), _ONE
    # exp(-x * x / pi) by the quotients of its successive values.
    quotient = _exp_minus(_ONE, _STEPS * _STEPS * _pi())
    gauss, change = _ONE, _multiply(quotient, quotient)
    tails, densities = [], []
    for _ in range(_STEPS * _REACH + 1):
        tails.append(laplace)
        densities.append(gauss)
        laplace = _multiply(laplace, laplace_step)
        gauss = _multiply(gauss, quotient)
        quotient = _multiply(quotient, change)
    return _mixed_survival(tails, densities)


def _mixed_survival(tails: list[int], densities: list[int]) -> np.ndarray:
    areas = [0]
    for left, right in zip(densities[-2::-1], densities[:0:-1], strict=True):
        areas.append(areas[-1] + left + right)
    areas.reverse()
    mixed = [
        _LAPLACE * tail + (100 - _LAPLACE) * (area * _ONE // areas[0])
        for tail, area in zip(tails, areas, strict=True)
    ]
    shift = _PLACES - _SURVIVAL_PLACES
    return np.array([max(m // 100 >> shift, 1) for m in mixed], np.int64)


def survive(double_edges: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The survival function at edges (given doubled) by the mean (2**-16)."""
    place = (double_edges << 29) // means
    place = np.clip(place, 0, (_STEPS * _REACH << 8) - 1)
    table, index, part = _survival(), place >> 8, place & 255
    step = (table[index + 1] - table[index]) * part >> 8
    return np.asarray(table[index] + step)


def _rounded_means(
    means: np.ndarray, buckets: int, hole: int, shift: int
) -> np.ndarray:
    """The mean magnitude of the levels of weights of those means, in 2**-16."""
    count = min(max(buckets + 12, 24), 120)
    first = np.array([bucket_start(b) for b in range(count + 1)], np.int64)
    tails = survive(
        double_edges(first, None, 2 * hole - 2 + shift), means[:, None]
    )
    widths = np.diff(first[1:], append=2 * first[-1] - first[-2])
    # Within a bucket the survival function is taken to be linear.
    tails = tails[:, 1:] >> _SURVIVAL_PLACES - 30
    after = np.append(tails[:, 1:], tails[:, -1:] // 2, axis=1)
    sums = ((widths + 1) * tails + (widths - 1) * after).sum(1)
    return np.asarray(sums + 2 * (hole - 1) * tails[:, 0] >> 15)


@functools.lru_cache(maxsize=256)
def class_means(buckets: int, hole: int, shift: int) -> np.ndarray:
    """The mean of the unrounded weights of each scale class, in 2**-16."""
    classes = class_count(buckets)
    wanted = np.array([_eighth_octave(2 * i + 1) for i in range(classes)])
    grid = np.array([_eighth_octave(i) for i in range(24, 2 * classes + 32)])
    reached = _rounded_means(grid, buckets, hole, shift)
    reached = np.maximum.accumulate(reached)
    after = np.searchsorted(reached, wanted).clip(1, len(grid) - 1)
    below, above = reached[after - 1], reached[after]
    part = ((wanted - below) << 16) // np.maximum(above - below, 1)
    part = part.clip(0, 1 << 16)
    return np.asarray(
        grid[after - 1] + ((grid[after] - grid[after - 1]) * part >> 16)
    )


def class_value(scale_class: int) -> int:
    """The middle of a scale class, in 1/1024."""
    return _eighth_octave(2 * scale_class + 1) >> 6


@functools.cache
def _eighth_octave(eighths: int) -> int:
    """`2 ** (eighths / 8 - SCALE_OCTAVES)` in units of 2**-16."""
    power = _ONE << (eighths >> 3)
    for bit in range(3):
        if eighths >> bit & 1:
            power = _multiply(power, _root_of_two(3 - bit))
    return power >> _PLACES - 16 + SCALE_OCTAVES


def _root_of_two(times: int) -> int:
    root = 2 * _ONE
    for _ in range(times):
        root = math.isqrt(root << _PLACES)
    return root


def double_edges(
    starts: np.ndarray, grid: int | None, shift: int
) -> np.ndarray:
    """Twice the threshold below which weights fall under a level."""
    if grid is None:
        edges = 2 * starts - 1 + shift
    elif grid == 0:
        edges = 4 * starts - 2 + shift
    else:
        edges = np.where(starts <= 1, 1, 4 * starts - 4) + shift
    return np.where(starts <= 0, 0, edges)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    known = whole > 1 << 12
    quotient = (part << 16) // np.maximum(whole, 1)
    return np.where(known, np.clip(quotient, _LEAST, 65536 - _LEAST), 1 << 15)


@dataclass(frozen=True, slots=True, eq=False)
class Priors:
    """What a model starts with.

    Args:
        nodes: uint32 array of shape `(classes, nodes)`. The slots of a
            context that stands for a scale class: `probability << 16`.
        halves: uint32 array of shape `(classes, buckets)`. The slots for the
            upper half of each bucket.
        starts: int32 array of shape `(2, classes)`. The bucket coding starts
            at, for each grid.
    """

    nodes: np.ndarray
    halves: np.ndarray
    starts: np.ndarray


@functools.lru_cache(maxsize=64)
def priors(
    buckets: int,
    trellis: bool = False,
    hole: int = 1,
    shift: int = 0,
    top: int = 0,
) -> Priors:
    """The priors of a model.

    The weights behind the levels are taken to be a mixture of a Laplace and a
    Gaussian distribution, of which pruning removed the smallest.

    Args:
        buckets: Integer, the number of buckets, at least 2.
        trellis: Boolean, whether levels lie on the two grids of a trellis.
        hole: Integer, the least magnitude but 0: level 1.
        shift: Integer. Magnitude `m` stands for weights of `m + shift / 2`.
        top: Integer, the level that the last bucket holds alone, or 0.

    Returns:
        `Priors`. Node `3 * u` asks whether the bucket is above `u`, the start;
        `3 * u + 1` whether it is above `u`, coming from below; `3 * u + 2`
        whether it is below `u`, coming from above. With a trellis the nodes of
        the first four buckets follow once more, for the odd grid.
    """
    means = class_means(buckets, hole, shift)[:, None]
    grids: tuple[int | None, ...] = (0, 1) if trellis else (None,)
    first = np.array([bucket_start(b) for b in range(buckets + 1)], np.int64)
    if top:
        first[-2:] = top, top + 1
    parts = []
    for grid in grids:
        edges = double_edges(first, grid, 2 * hole - 2 + shift)
        middle = first[:-1] + first[1:] >> 1
        middles = double_edges(middle, grid, 2 * hole - 2 + shift)
        parts.append(
            _node_priors(survive(edges, means), survive(middles, means))
        )
    nodes, halves, starts = parts[0]
    if trellis:
        extra = 3 * min(buckets, 4)
        nodes = np.concatenate([nodes, parts[1][0][:, :extra]], 1)
    return Priors(
        (nodes << 16).astype(np.uint32),
        (halves << 16 | _AGE_OF_HALVES).astype(np.uint32),
        np.stack([starts, parts[-1][2]]).astype(np.int32),
    )


def _node_priors(
    above: np.ndarray, middle: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    whole, here, after = above[:, :1], above[:, :-1], above[:, 1:]
    nodes = np.stack(
        [
            _ratio(after, whole),
            _ratio(after, here),
            _ratio(whole - here, whole - after),
        ],
        axis=2,
    ).reshape(len(above), -1)
    halves = _ratio(middle - after, here - after)
    starts = (2 * above[:, 1:-2] >= whole).sum(1)
    return nodes, halves, starts


def predicted_density(mean: int, buckets: int, hole: int, shift: int) -> int:
    """The share of nonzeros, in 2**-16, where magnitudes have this mean.

    Args:
        mean: Integer, the index of the scale class.
        buckets: Integer, the number of buckets.
        hole: Integer, as for `priors`.
        shift: Integer, as for `priors`.

    Returns:
        Integer in 0..65536.
    """
    unrounded = class_means(buckets, hole, shift)[mean : mean + 1]
    edge = np.array([2 * hole - 1 + shift])
    return int(survive(edge, unrounded)[0] >> _SURVIVAL_PLACES - 16)

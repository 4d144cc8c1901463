"""One multiplier for a whole model: how fine each tensor is quantized.

Bits are best spent where the next one takes the most error away, so at the
optimum every tensor gives up the same error for a bit. Error and bits of all
tensors are then ruled by one number, and the wanted signal-to-noise ratio or
the wanted size is met by a search for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.allocation_geometry import cheaper_kinds
from keras_squeeze.quantizers.allocation_problem import (
    AllocationProblem,
    Store,
    Trial,
    quantizer_maker,
)
from keras_squeeze.quantizers.allocation_search import search_exponent
from keras_squeeze.quantizers.gram_matrix import GramMatrix
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.quantizer import finite_float32
from keras_squeeze.quantizers.rate_distortion_size import estimate_bytes
from keras_squeeze.quantizers.trellis_refinement import REFINED_STATES

Size = Callable[[str, QuantizedTensor], int]

_TOLERANCE_DB = 0.02
# Budgets are used up to this share, if the grid of steps lets them.
_BUDGET_SHARE = 0.997
# Half the step, a quarter of the noise.
_DB_PER_OCTAVE = 20 * math.log10(2.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Allocation:
    """What `allocate` chose and reached.

    Args:
        tensors: Mapping from names to `QuantizedTensor`.
        snr_db: Float. The signal-to-noise ratio reached, infinite without
            error.
        num_bytes: Integer. Bytes of all tensors, as `size` gave them or
            estimated.
        relative_step: Float. The step of every tensor relative to the root
            mean square of its weights (or, with importance, to the one the
            importance gives).
    """

    tensors: Mapping[str, QuantizedTensor]
    snr_db: float
    num_bytes: int
    relative_step: float


def allocate(
    tensors: Mapping[str, NDArray[Any]],
    snr_db: float | None = None,
    quality: float | None = None,
    max_bytes: int | None = None,
    *,
    states: int | None = 8,
    kinds: Mapping[str, str] | None = None,
    importance: Mapping[str, NDArray[Any]] | None = None,
    grams: Mapping[str, NDArray[Any] | GramMatrix] | None = None,
    size: Size | None = None,
    rate_weight: float = 1.0,
    target: str = "fast",
    executor: Executor | None = None,
    store: Store = dict,
) -> Allocation:
    """Quantizes many tensors for one signal-to-noise ratio or one size.

    The ratio is that of the whole: `-10 log10` of the mean over all weights
    of each tensor's squared error relative to its mean square; with
    importance, of `sum(importance * error**2)` over
    `sum(importance * weight**2)`.

    Args:
        tensors: Mapping from names to arrays of floats; asked for one at a
            time, again and again.
        snr_db: Float above 0, decibels. Exactly one of `snr_db`, `quality`
            and `max_bytes` is given.
        quality: Float from 0 to 100, a name for the ratio
            `6 + 0.36 * quality` decibels.
        max_bytes: Integer. The sum of the sizes must not exceed it.
        states: Integer, the states of the trellis, or `None` for scalar
            quantization. Defaults to `8`.
        kinds: Optional mapping from names to kinds of
            `codecs.kernel_geometry`. Defaults to the likeliest. For `"small"`
            and at least 64 states, channels and inputs are exchanged where
            the coder's bytes say so.
        importance: Optional mapping from all names to arrays of the tensors'
            shapes, not negative: the factor of each weight's squared error,
            comparable between tensors. Defaults to `None`: every tensor's
            error counts relative to its mean square.
        grams: Optional mapping from some of the names to Gram matrices of
            their layers' inputs, or `GramMatrix`es where one is used for
            several allocations. These tensors are quantized by
            `quantize_output_aware`, and the error that counts is that of
            their outputs, relative to the outputs' square. Not together with
            `importance`. Defaults to `None`.
        size: Optional callable `(name, QuantizedTensor) -> bytes`. Defaults
            to an estimate of the entropy.
        rate_weight: Float, as in `TrellisQuantizer`. Defaults to `1.0`.
        target: String, `"fast"` or `"small"`, as in `TrellisQuantizer`.
            Defaults to `"fast"`.
        executor: Optional `concurrent.futures.Executor` with threads, to
            quantize tensors in parallel. The codes do not depend on it.
        store: Callable that makes an empty mutable mapping, which keeps the
            quantized tensors of one attempt; those of all but the best are
            cleared. Defaults to `dict`, which is memory.

    Returns:
        `Allocation`.

    Raises:
        NonFiniteError: If a weight is NaN or infinite.
        SqueezeError: If the arguments contradict each other, or the size or
            ratio cannot be reached.

    Example:
    >>> import numpy as np
    >>> weights = np.random.default_rng(0).normal(size=(64, 32))
    >>> allocation = allocate({"kernel": weights}, snr_db=20)
    >>> abs(allocation.snr_db - 20) < 0.05
    True

    References:
        - Shoham and Gersho, 1988, Efficient bit allocation for an arbitrary
          set of quantizers.
    """
    wanted = _wanted_snr_db(snr_db, quality, max_bytes)
    arrays = _FiniteArrays(tensors, list(tensors))
    kinds = kinds or {}
    if target == "small" and (states or 0) >= REFINED_STATES:
        others = [name for name in tensors if name not in (grams or {})]
        rest = _FiniteArrays(tensors, others)
        kinds = {**kinds, **cheaper_kinds(rest, kinds, executor)}
    problem = AllocationProblem(
        arrays,
        importance,
        grams or {},
        kinds,
        quantizer_maker(states, rate_weight, target),
        executor,
        store,
    )
    size = size or _estimated_size
    if wanted is not None:
        trial = _reach_snr(problem, wanted)
    else:
        trial = _reach_bytes(problem, int(max_bytes or 0), size)
    return Allocation(
        trial.tensors,
        trial.snr_db,
        _total_size(trial, size),
        2.0**trial.exponent,
    )


class _FiniteArrays(Mapping[str, NDArray[np.float32]]):
    """Arrays as float32, made and checked when they are asked for."""

    def __init__(
        self, tensors: Mapping[str, NDArray[Any]], names: list[str]
    ) -> None:
        self._tensors, self._names = tensors, names

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return finite_float32(self._tensors[name], name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _wanted_snr_db(
    snr_db: float | None, quality: float | None, max_bytes: int | None
) -> float | None:
    named = {"snr_db": snr_db, "quality": quality, "max_bytes": max_bytes}
    given = {k: v for k, v in named.items() if v is not None}
    if len(given) != 1:
        raise SqueezeError(
            "Expected exactly one of `snr_db`, `quality` and `max_bytes`. "
            f"Received: {given}"
        )
    if quality is not None:
        if not 0 <= quality <= 100:
            raise SqueezeError(
                f"Expected `quality` from 0 to 100. Received: {quality!r}"
            )
        return snr_db_of_quality(quality)
    (name, value), *_ = given.items()
    if not 0 < value < math.inf:
        raise SqueezeError(
            f"Expected `{name}` above 0 and finite. Received: {value!r}"
        )
    return snr_db


def snr_db_of_quality(quality: float) -> float:
    """The signal-to-noise ratio a quality stands for.

    Args:
        quality: Float from 0 to 100.

    Returns:
        Float, decibels: 6 for 0, 24 for 50, 42 for 100.

    Example:
    >>> snr_db_of_quality(50)
    24.0
    """
    return 6.0 + 0.36 * quality


def _estimated_size(name: str, tensor: QuantizedTensor) -> int:
    return estimate_bytes(tensor)


def _total_size(trial: Trial, size: Size) -> int:
    return sum(size(name, tensor) for name, tensor in trial.tensors.items())


def _clear_all_but(trials: Iterable[Trial], kept: Sequence[Trial]) -> None:
    """Lets go of the codes that will not be taken."""
    for trial in trials:
        if all(trial is not other for other in kept):
            trial.tensors.clear()


def _reach_snr(problem: AllocationProblem, wanted: float) -> Trial:
    guess = 1.0 - wanted / _DB_PER_OCTAVE
    trials: list[Trial] = []

    def measure(exponent: float) -> float:
        trials.append(problem.trial(exponent))
        _clear_all_but(trials, [nearest(), *least_above()])
        return min(trials[-1].snr_db, 1e3)

    def nearest() -> Trial:
        return min(trials, key=lambda trial: abs(trial.snr_db - wanted))

    def least_above() -> list[Trial]:
        above = [trial for trial in trials if trial.snr_db >= wanted]
        return [min(above, key=lambda trial: trial.snr_db)] if above else []

    bracket = (wanted - _TOLERANCE_DB, wanted + _TOLERANCE_DB)
    search_exponent(measure, guess, bracket, slope=_DB_PER_OCTAVE)
    best = nearest()
    if abs(best.snr_db - wanted) > 0.05:
        if not least_above():
            raise SqueezeError(
                f"Expected a ratio codes of 16 bits can reach, at most "
                f"{best.snr_db:.1f} dB here. Received: snr_db={wanted}"
            )
        (best,) = least_above()
    return best


def _reach_bytes(problem: AllocationProblem, budget: int, size: Size) -> Trial:
    bits = 8 * budget / max(1, problem.count)
    trials: list[tuple[int, Trial]] = []

    def measure(exponent: float) -> float:
        trial = problem.trial(exponent)
        trials.append((_total_size(trial, size), trial))
        _clear_all_but((trial for _, trial in trials), greatest())
        return float(trials[-1][0])

    def greatest() -> list[Trial]:
        fitting = [item for item in trials if item[0] <= budget]
        if not fitting:
            return []
        return [max(fitting, key=lambda item: (item[0], -item[1].exponent))[1]]

    bracket = (_BUDGET_SHARE * budget, budget)
    search_exponent(measure, 1.2 - bits, bracket, slope=problem.count / 8)
    if not greatest():
        least = min(total for total, _ in trials)
        raise SqueezeError(
            "Expected `max_bytes` that the tensors can fit, at least "
            f"{least}. Received: max_bytes={budget}"
        )
    return greatest()[0]

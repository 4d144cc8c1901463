"""All tensors of an allocation, quantized at one relative step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, MutableMapping
from concurrent.futures import Executor
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.allocation_measure import (
    checked_importance,
    energy,
    relative_measure,
    weighted_measure,
)
from keras_squeeze.quantizers.gram_matrix import GramMatrix
from keras_squeeze.quantizers.output_aware import (
    output_error,
    quantize_output_aware,
)
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.rate_distortion import RateDistortionQuantizer
from keras_squeeze.quantizers.trellis import TrellisQuantizer

#: Makes a mapping that keeps quantized tensors by their names.
Store: TypeAlias = Callable[[], MutableMapping[str, QuantizedTensor]]


def quantizer_maker(
    states: int | None, rate_weight: float, target: str
) -> Callable[[float], RateDistortionQuantizer]:
    """A function from steps to quantizers.

    Args:
        states: Integer, the states of the trellis, or `None`.
        rate_weight: Float, as in `TrellisQuantizer`.
        target: String, as in `TrellisQuantizer`.

    Returns:
        Callable.
    """

    def make(step: float) -> RateDistortionQuantizer:
        options: dict[str, Any] = {
            "step": step,
            "rate_weight": rate_weight,
            "target": target,
        }
        if states is None:
            return RateDistortionQuantizer(**options)
        return TrellisQuantizer(states, **options)

    return make


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """What one step gave.

    Args:
        exponent: Float, the logarithm of the relative step.
        tensors: Mapping from names to `QuantizedTensor`.
        snr_db: Float, infinite without error.
    """

    exponent: float
    tensors: MutableMapping[str, QuantizedTensor]
    snr_db: float


class AllocationProblem:
    """The tensors, and how they are quantized at a given step.

    Args:
        tensors: Mapping from names to float32 arrays, asked for one at a
            time.
        importance: Optional mapping, as in `allocate`.
        grams: Mapping, as in `allocate`.
        kinds: Mapping, as in `allocate`.
        quantizer: Callable from steps to quantizers.
        executor: Optional `concurrent.futures.Executor`.
        store: Callable that makes the mapping that keeps what a trial gives.
            Defaults to `dict`.
    """

    def __init__(
        self,
        tensors: Mapping[str, NDArray[np.float32]],
        importance: Mapping[str, NDArray[Any]] | None,
        grams: Mapping[str, NDArray[Any] | GramMatrix],
        kinds: Mapping[str, str],
        quantizer: Callable[[float], RateDistortionQuantizer],
        executor: Executor | None,
        store: Store = dict,
    ) -> None:
        self.tensors = tensors
        self._store = store
        self.count = sum(array.size for array in tensors.values())
        checked = checked_importance(tensors, importance)
        if importance is not None and grams:
            raise SqueezeError(
                "Expected `importance` or `grams`, not both. Received: "
                f"importance of {sorted(importance)}, grams of {sorted(grams)}"
            )
        self._importance = checked or {}
        self._grams = {
            name: GramMatrix.of(gram, name) for name, gram in grams.items()
        }
        self._kinds = kinds
        self._quantizer = quantizer
        self._map = map if executor is None else executor.map
        self._measure = (
            relative_measure(tensors)
            if checked is None
            else weighted_measure(tensors, checked)
        )

    def trial(self, exponent: float) -> Trial:
        """Quantizes everything at one relative step.

        Args:
            exponent: Float. The step is `2**exponent` units of each tensor.

        Returns:
            `Trial`.
        """
        step = 2.0**exponent
        names = list(self.tensors)
        done = self._map(lambda name: self._quantize(name, step), names)
        found, noise = self._store(), 0.0
        for name, (tensor, error) in zip(names, done, strict=True):
            found[name] = tensor
            noise += error
            del tensor
        norm = self._measure.norm
        ratio = noise / norm if norm else 0.0
        snr_db = -10 * math.log10(ratio) if ratio > 0 else math.inf
        return Trial(exponent, found, snr_db)

    def _quantize(
        self, name: str, step: float
    ) -> tuple[QuantizedTensor, float]:
        values = self.tensors[name]
        importance = self._importance.get(name)
        quantizer = self._quantizer(step * self._measure.unit_steps[name])
        if name in self._grams:
            return self._quantize_outputs(name, quantizer)
        tensor = quantizer.encode(
            values,
            name=name,
            importance=importance,
            kind=self._kinds.get(name),
        )
        error = tensor.dequantize()
        error -= values
        return tensor, self._measure.factors[name] * energy(error, importance)

    def _quantize_outputs(
        self, name: str, quantizer: RateDistortionQuantizer
    ) -> tuple[QuantizedTensor, float]:
        values, gram = self.tensors[name], self._grams[name]
        states = None
        if isinstance(quantizer, TrellisQuantizer):
            states = quantizer.states
        tensor = quantize_output_aware(
            values,
            gram,
            quantizer.step or 1.0,
            quantizer.rate_weight,
            states=states,
            name=name,
        )
        return tensor, values.size * output_error(values, tensor, gram)

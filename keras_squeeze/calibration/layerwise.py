"""A model is quantized layer by layer, each on what the ones before left it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.batch_norm_folding import normalization_after
from keras_squeeze.calibration.batch_norm_reestimation import (
    is_batch_norm,
    reestimate_moments,
)
from keras_squeeze.calibration.bias_correction import (
    corrects,
    mean_outputs,
    shift_bias,
)
from keras_squeeze.calibration.kernel_inputs import kernel_inputs
from keras_squeeze.calibration.kernel_matrix import (
    kernel_matrix,
    reason_without_matrix,
)
from keras_squeeze.calibration.lanes import Lane
from keras_squeeze.calibration.layer_graph import LayerCall, LayerGraph
from keras_squeeze.calibration.paired_statistics import (
    PairedStatistics,
    aligned_matrix,
)
from keras_squeeze.calibration.recording import Calls, recording
from keras_squeeze.quantizers import QuantizedTensor, Quantizer
from keras_squeeze.quantizers.reconstruction import quantize_reconstructing
from keras_squeeze.surgery.kernel_quantization import (
    channel_axis,
    encode_kernel,
)
from keras_squeeze.surgery.layer_tree import (
    Kernel,
    find_kernels,
    to_numpy,
    walk_layers,
)

#: Kernels with more inputs are rounded: their sums would fill the memory.
MAX_INPUTS = 4608
_MAX_PASSES = 48


@dataclasses.dataclass(frozen=True)
class LayerUnits:
    """What happens to each layer in turn.

    Args:
        reconstruct: Boolean. Whether codes are chosen for the least error of
            the outputs rather than rounded.
        correct_bias: Boolean. Whether biases take up the mean error.
        reestimate_batch_norm: Boolean. Whether moving statistics follow.
        align: Boolean. Whether a kernel makes up for the errors of the layers
            before. Defaults to `True`.
        damping: Float. Defaults to `0.01`.
    """

    reconstruct: bool = False
    correct_bias: bool = False
    reestimate_batch_norm: bool = False
    align: bool = True
    damping: float = 0.01


def quantize_layerwise(
    model: Any,
    twin: Any,
    batches: list[Any],
    quantizers: Mapping[str, Quantizer],
    units: LayerUnits,
) -> tuple[dict[str, QuantizedTensor], Lane, Lane]:
    """Quantizes kernels one after the other, in the order they are called.

    Both models run on the data side by side. Kernels keep floating-point
    variables; their values become those that the codes stand for.

    Args:
        model: A built `keras.Model`, changed in place.
        twin: A model of the same structure, whose outputs are to be kept.
        batches: List of batches of inputs.
        quantizers: Mapping of a kernel's path to its `Quantizer`.
        units: `LayerUnits`.

    Returns:
        Dictionary of a kernel's path to its `QuantizedTensor`, and the two
        `Lane`s, which hold the outputs of the models.

    Raises:
        NonFiniteError: If activations are NaN or infinite; the kernel that
            they meet is named.
    """
    walk = _Walk(model, twin, quantizers, units)
    lane, twin_lane = Lane(model, batches), Lane(twin, batches)
    for call, twin_call in zip(lane.calls, twin_lane.calls, strict=True):
        walk.prepare(lane, call, twin_lane, twin_call)
        lane.run(call)
        twin_lane.run(twin_call)
    walk.finish()
    return walk.tensors, lane, twin_lane


class _Walk:
    """Which layers are done, and the tensors found so far."""

    def __init__(
        self,
        model: Any,
        twin: Any,
        quantizers: Mapping[str, Quantizer],
        units: LayerUnits,
    ) -> None:
        self.tensors: dict[str, QuantizedTensor] = {}
        self._quantizers = quantizers
        self._units = units
        self._kernels: dict[int, list[Kernel]] = {}
        for kernel in find_kernels(model):
            if kernel.path in quantizers:
                self._kernels.setdefault(id(kernel.layer), []).append(kernel)
        self._twins = {k.path: k for k in find_kernels(twin)}
        pairs = zip(walk_layers(model), walk_layers(twin), strict=True)
        self._twin_layers = {id(a): b for (_, a), (_, b) in pairs}
        self._done: set[int] = set()
        self._normalized = _normalized_layers(model)

    def prepare(
        self, lane: Lane, call: LayerCall, twin_lane: Lane, twin_call: LayerCall
    ) -> None:
        """Settles all layers that a call runs."""
        layers = [layer for layer in self._inside(call) if self._waits(layer)]
        if not layers:
            return
        if len(layers) > 1:
            layers = self._in_order(lane, call, layers)
        size = -(-len(layers) // _MAX_PASSES)
        for start in range(0, len(layers), size):
            chunk = layers[start : start + size]
            twins = [self._twin_layers[id(layer)] for layer in chunk]
            with recording(call.layer, chunk) as seen:
                lane.evaluate(call)
            with recording(twin_call.layer, twins) as twin_seen:
                twin_lane.evaluate(twin_call)
            for layer, twin in zip(chunk, twins, strict=True):
                self._settle(layer, seen, twin, twin_seen)

    def finish(self) -> None:
        """Rounds the kernels that no call has met."""
        for kernels in self._kernels.values():
            for kernel in kernels:
                if kernel.path not in self.tensors:
                    self._store(kernel, self._rounded(kernel))

    def _inside(self, call: LayerCall) -> list[Any]:
        if not hasattr(call.layer, "_flatten_layers"):
            return []
        return [layer for _, layer in walk_layers(call.layer)]

    def _waits(self, layer: Any) -> bool:
        if id(layer) in self._done:
            return False
        if id(layer) in self._kernels:
            return True
        return self._units.reestimate_batch_norm and is_batch_norm(layer)

    def _in_order(
        self, lane: Lane, call: LayerCall, layers: list[Any]
    ) -> list[Any]:
        with recording(call.layer, layers) as seen:
            lane.evaluate(call)
        found = {id(layer): layer for layer in layers}
        return [found[key] for key in seen]

    def _settle(
        self, layer: Any, seen: Calls, twin: Any, twin_seen: Calls
    ) -> None:
        self._done.add(id(layer))
        calls, twin_calls = seen[id(layer)], twin_seen[id(twin)]
        if id(layer) not in self._kernels:
            first = [args[0] for args, _ in calls]
            reestimate_moments(layer, first, [a[0] for a, _ in twin_calls])
            return
        for kernel in self._kernels[id(layer)]:
            self._quantize(kernel, calls, twin_calls)

    def _quantize(self, kernel: Kernel, calls: Any, twin_calls: Any) -> None:
        twin = self._twins[kernel.path]
        if not self._is_measured(kernel):
            self._store(kernel, self._rounded(kernel))
            return
        found = PairedStatistics(kernel.path, len(calls))
        for vectors, twin_vectors in zip(
            _vectors(kernel, calls), _vectors(twin, twin_calls), strict=True
        ):
            found.add(vectors, twin_vectors)
        original = to_numpy(twin.variable).astype(np.float32)
        matrix = kernel_matrix(kernel)
        corrected = self._units.correct_bias and corrects(kernel.layer, matrix)
        # What comes after takes up the mean error.
        centred = corrected or (
            self._units.reestimate_batch_norm
            and id(kernel.layer) in self._normalized
        )
        tensor = self._tensor(kernel, original, found, centred)
        self._store(kernel, tensor)
        if corrected:
            wanted = mean_outputs(original, found.twin_mean, matrix)
            there = mean_outputs(tensor.dequantize(), found.mean, matrix)
            shift_bias(kernel.layer, wanted - there)

    def _is_measured(self, kernel: Kernel) -> bool:
        if not (self._units.reconstruct or self._units.correct_bias):
            return False
        if (
            kernel.attribute == "embeddings"
            or reason_without_matrix(kernel) is not None
        ):
            return False
        return kernel_matrix(kernel).inputs <= MAX_INPUTS

    def _tensor(
        self,
        kernel: Kernel,
        original: NDArray[np.float32],
        found: PairedStatistics,
        centred: bool,
    ) -> QuantizedTensor:
        if not self._units.reconstruct:
            return self._rounded(kernel)
        gram, cross = found.gram, found.cross
        if centred:
            gram, cross = found.without_means()
        target = original
        if self._units.align:
            target = self._aligned(kernel, original, gram, cross)
        return quantize_reconstructing(
            target,
            gram,
            self._quantizers[kernel.path],
            channel_axis(kernel),
            kernel_matrix(kernel),
            damping=self._units.damping,
            name=kernel.path,
        )

    def _aligned(
        self,
        kernel: Kernel,
        original: NDArray[np.float32],
        gram: NDArray[np.float64],
        cross: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        matrix = kernel_matrix(kernel)
        moved = aligned_matrix(
            matrix.to_matrix(original), gram, cross, self._units.damping
        )
        kept = matrix.from_matrix(moved).astype(np.float32)
        # Pruned weights stay pruned.
        return np.where(original == 0, np.float32(0), kept)

    def _rounded(self, kernel: Kernel) -> QuantizedTensor:
        return encode_kernel(kernel, self._quantizers[kernel.path])

    def _store(self, kernel: Kernel, tensor: QuantizedTensor) -> None:
        self.tensors[kernel.path] = tensor
        kernel.variable.assign(tensor.dequantize())


def _normalized_layers(model: Any) -> set[int]:
    """The layers that a batch normalization follows, by their `id`."""
    graph = LayerGraph(model)
    return {
        id(call.layer)
        for call in graph.calls
        if normalization_after(graph, call) is not None
    }


def _vectors(kernel: Kernel, calls: Any) -> Iterator[NDArray[np.float32]]:
    for args, keywords in calls:
        yield from kernel_inputs(kernel, *args, **keywords)

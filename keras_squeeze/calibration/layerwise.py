"""A model is quantized layer by layer, each on what the ones before left it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
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
from keras_squeeze.calibration.layer_calls import Call, Calls, recording
from keras_squeeze.calibration.layer_graph import LayerCall, LayerGraph
from keras_squeeze.calibration.paired_statistics import (
    PairedStatistics,
    aligned_matrix,
)
from keras_squeeze.calibration.twin_values import TwinValues
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


@dataclasses.dataclass(frozen=True)
class Layerwise:
    """What has become of the kernels of a model.

    Args:
        tensors: Dictionary of a kernel's path to its `QuantizedTensor`.
        originals: Dictionary of a kernel's path to its value before.
        outputs: List over batches of lists of tensors, what the model returns.
        wanted: The same of the model as it was.
    """

    tensors: dict[str, QuantizedTensor]
    originals: dict[str, NDArray[Any]]
    outputs: list[list[Any]]
    wanted: list[list[Any]]


def quantize_layerwise(
    model: Any,
    batches: list[Any],
    quantizers: Mapping[str, Quantizer],
    units: LayerUnits,
) -> Layerwise:
    """Quantizes kernels one after the other, in the order they are called.

    The model runs on the data side by side with what it was. Kernels keep
    floating-point variables; their values become those that the codes stand
    for.

    Args:
        model: A built `keras.Model`, changed in place.
        batches: List of batches of inputs.
        quantizers: Mapping of a kernel's path to its `Quantizer`.
        units: `LayerUnits`.

    Returns:
        `Layerwise`.

    Raises:
        NonFiniteError: If activations are NaN or infinite; the kernel that
            they meet is named.
    """
    walk = _Walk(model, quantizers, units)
    lane, twin_lane = Lane(model, batches), Lane(model, batches)
    for call, twin_call in zip(lane.calls, twin_lane.calls, strict=True):
        walk.prepare(lane, call, twin_lane, twin_call)
        lane.run(call)
        with walk.twin.shown(call.layer):
            twin_lane.run(twin_call)
    walk.finish()
    return Layerwise(
        walk.tensors, walk.originals, lane.outputs(), twin_lane.outputs()
    )


class _Walk:
    """Which layers are done, and the tensors found so far."""

    def __init__(
        self,
        model: Any,
        quantizers: Mapping[str, Quantizer],
        units: LayerUnits,
    ) -> None:
        self.tensors: dict[str, QuantizedTensor] = {}
        self.originals: dict[str, NDArray[Any]] = {}
        self.twin = TwinValues()
        self._quantizers = quantizers
        self._units = units
        self._kernels: dict[int, list[Kernel]] = {}
        for kernel in find_kernels(model):
            if kernel.path in quantizers:
                self._kernels.setdefault(id(kernel.layer), []).append(kernel)
                value = np.array(to_numpy(kernel.variable))
                self.originals[kernel.path] = value
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
            with recording(call.layer, chunk) as seen:
                lane.evaluate(call)
            with (
                self.twin.shown(call.layer),
                recording(call.layer, chunk) as twin_seen,
            ):
                twin_lane.evaluate(twin_call)
            for layer in chunk:
                self._settle(layer, seen, twin_seen)

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

    def _settle(self, layer: Any, seen: Calls, twin_seen: Calls) -> None:
        self._done.add(id(layer))
        self.twin.keep(layer)
        twin_calls = twin_seen[id(layer)]
        # Both are summed up over the same positions.
        calls = [
            dataclasses.replace(call, mask=twin.mask)
            for call, twin in zip(seen[id(layer)], twin_calls, strict=True)
        ]
        if id(layer) not in self._kernels:
            reestimate_moments(layer, calls, twin_calls)
            return
        for kernel in self._kernels[id(layer)]:
            self._quantize(kernel, calls, twin_calls)

    def _quantize(
        self, kernel: Kernel, calls: list[Call], twin_calls: list[Call]
    ) -> None:
        found = PairedStatistics(kernel.path, len(calls))
        if self._is_measured(kernel):
            for pair in zip(calls, twin_calls, strict=True):
                self._add(kernel, *pair, found)
        if not found.count:
            self._store(kernel, self._rounded(kernel))
            return
        original = self.originals[kernel.path].astype(np.float32)
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

    def _add(
        self, kernel: Kernel, call: Call, twin: Call, found: PairedStatistics
    ) -> None:
        twin_inputs: Iterable[Any] = kernel_inputs(kernel, twin)
        if kernel.attribute == "pointwise_kernel":
            # The layer's first kernel makes what the second one reads.
            with self.twin.shown(kernel.layer):
                twin_inputs = list(twin_inputs)
        pairs = zip(kernel_inputs(kernel, call), twin_inputs, strict=True)
        for vectors, twin_vectors in pairs:
            found.add(vectors, twin_vectors)

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

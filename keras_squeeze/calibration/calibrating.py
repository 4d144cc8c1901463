"""The pipeline of calibration: which units run, in which order, to what end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.activation_scaling import scale_activations
from keras_squeeze.calibration.batch_norm_folding import (
    fold_batch_norm,
    normalization_after,
)
from keras_squeeze.calibration.batch_norm_reestimation import is_batch_norm
from keras_squeeze.calibration.channel_links import ChannelLink, channel_links
from keras_squeeze.calibration.data_free import (
    Means,
    correct_bias_data_free,
    expected_inputs,
)
from keras_squeeze.calibration.equalization import equalize
from keras_squeeze.calibration.layer_graph import LayerGraph
from keras_squeeze.calibration.layerwise import LayerUnits, quantize_layerwise
from keras_squeeze.calibration.output_error import output_snr_db
from keras_squeeze.calibration.workplace import ModelState, Workplace
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import QuantizedTensor, Quantizer
from keras_squeeze.surgery.kernel_quantization import encode_kernel
from keras_squeeze.surgery.layer_tree import (
    find_kernels,
    to_numpy,
    walk_layers,
)

#: Names of the units, in the order in which they run.
UNITS = (
    "fold_batch_norm",
    "equalize",
    "activation_scaling",
    "reconstruct",
    "correct_bias",
    "reestimate_batch_norm",
)
#: Those that need no calibration data.
DATA_FREE_UNITS = ("fold_batch_norm", "equalize", "correct_bias")
#: The order in which `method="auto"` tries them.
_TRIED = (
    "reconstruct",
    "correct_bias",
    "reestimate_batch_norm",
    "fold_batch_norm",
    "equalize",
    "activation_scaling",
)

#: Units are chosen on so many samples; the rest serves the units chosen.
_PROBE_SAMPLES = 128

Measure = Callable[[Any], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A model whose kernels have the values of codes, and these codes.

    Args:
        state: `ModelState`, a model with floating-point kernels; `None` if
            nothing but kernels is to change.
        tensors: Dictionary of a kernel's path to its `QuantizedTensor`.
        originals: Dictionary of a kernel's path to its value before.
        units: Tuple of the names of the units that were used.
        figures: Dictionary of names to floats: the signal-to-noise ratio of
            the outputs after each step that was kept, and what `measure`
            says of it.
    """

    state: ModelState | None
    tensors: dict[str, QuantizedTensor]
    originals: dict[str, NDArray[Any]]
    units: tuple[str, ...]
    figures: dict[str, float]


def check_method(method: Any, calibrated: bool) -> tuple[str, ...] | None:
    """The units behind the argument `method` of a verb.

    Args:
        method: String `"auto"` or `"round"`, or a sequence of names of units.
        calibrated: Boolean. Whether there is calibration data.

    Returns:
        Tuple of names, in the order in which they run; `None` for those that
        help.

    Raises:
        SqueezeError: If a name is unknown, or a unit needs data.
    """
    if method == "auto":
        return None if calibrated else ()
    names = () if method == "round" else method
    if isinstance(names, str) or not isinstance(names, Sequence):
        names = (method,)
    unknown = [name for name in names if name not in UNITS]
    if unknown:
        raise SqueezeError(
            f'Expected `method` to be "auto", "round" or a list of {UNITS}. '
            f"Received: method={method!r}"
        )
    needy = [name for name in names if name not in DATA_FREE_UNITS]
    if needy and not calibrated:
        raise SqueezeError(
            f"Expected `calibration` data for {needy}. Received: None"
        )
    return tuple(name for name in UNITS if name in names)


def calibrate(
    place: Workplace,
    batches: list[Any],
    quantizers: Mapping[str, Quantizer],
    units: tuple[str, ...] | None,
    measure: Measure,
) -> Calibrated:
    """Quantizes a model, for the least error of its outputs.

    Args:
        place: `Workplace` of the model, which is as before afterwards.
        batches: List of batches of inputs.
        quantizers: Mapping of a kernel's path to its `Quantizer`.
        units: Tuple of names of units; `None` adds one after the other and
            keeps those that bring the outputs closer to the model's.
        measure: Callable that takes a model and returns further figures.

    Returns:
        `Calibrated`.
    """
    figures: dict[str, float] = {}
    best = None
    if units is None:
        few = _few(batches)
        best, figures = _best_attempt(place, few, quantizers, measure)
        units = best.units
        best = best if len(few) == len(batches) else None
    if best is None:
        best = _attempt(place, batches, quantizers, units)
    figures["output_snr_db"] = best.snr_db
    return Calibrated(
        best.state, best.tensors, best.originals, best.units, figures
    )


def _applies(unit: str, model: Any) -> bool:
    """Whether a unit finds anything to do."""
    if unit == "reestimate_batch_norm":
        return any(is_batch_norm(layer) for _, layer in walk_layers(model))
    if unit == "fold_batch_norm":
        graph = LayerGraph(model)
        return any(normalization_after(graph, call) for call in graph.calls)
    if unit == "equalize":
        return any(len(link.readers) == 1 for link in channel_links(model))
    if unit == "activation_scaling":
        return bool(channel_links(model, normalizations=True))
    return True


@dataclasses.dataclass(frozen=True)
class _Attempt:
    state: ModelState
    tensors: dict[str, QuantizedTensor]
    originals: dict[str, NDArray[Any]]
    units: tuple[str, ...]
    snr_db: float


def _few(batches: list[Any]) -> list[Any]:
    """The first batches: enough to tell whether a unit helps."""
    samples = 0
    for count, batch in enumerate(batches, 1):
        samples += len(keras.tree.flatten(batch)[0])
        if samples >= _PROBE_SAMPLES:
            return batches[:count]
    return batches


def _best_attempt(
    place: Workplace,
    batches: list[Any],
    quantizers: Mapping[str, Quantizer],
    measure: Measure,
) -> tuple[_Attempt, dict[str, float]]:
    """Adds one unit after the other, and keeps those that help."""
    best = _attempt(place, batches, quantizers, ())
    figures = _figures(best, "round", measure)
    for unit in _TRIED:
        with best.state.shown() as model:
            applies = _applies(unit, model)
        if not applies:
            continue
        units = tuple(n for n in UNITS if n in best.units or n == unit)
        found = _attempt(place, batches, quantizers, units)
        if found.snr_db > best.snr_db:
            best = found
            figures |= _figures(best, unit, measure)
    return best, figures


def _figures(
    attempt: _Attempt, step: str, measure: Measure
) -> dict[str, float]:
    with attempt.state.shown() as model:
        further = measure(model)
    return {
        f"output_snr_db_{step}": attempt.snr_db,
        **{f"{name}_{step}": value for name, value in further.items()},
    }


def _attempt(
    place: Workplace,
    batches: list[Any],
    quantizers: Mapping[str, Quantizer],
    units: tuple[str, ...],
) -> _Attempt:
    with place.opened() as work:
        rebuild(work, units, batches, quantizers)
        found = quantize_layerwise(
            work,
            batches,
            quantizers,
            LayerUnits(
                reconstruct="reconstruct" in units,
                correct_bias="correct_bias" in units,
                reestimate_batch_norm="reestimate_batch_norm" in units,
            ),
        )
        state = place.state(work)
    ratio = output_snr_db(found.outputs, found.wanted)
    return _Attempt(state, found.tensors, found.originals, units, ratio)


def rebuild(
    model: Any,
    units: tuple[str, ...],
    batches: list[Any],
    quantizers: Mapping[str, Quantizer],
) -> None:
    """Runs the units that change a model but not its predictions, in place.

    Args:
        model: A built `keras.Model`.
        units: Tuple of names of units; others are passed over.
        batches: List of batches of inputs.
        quantizers: Mapping of a kernel's path to its `Quantizer`.
    """
    if "fold_batch_norm" in units:
        fold_batch_norm(model)
    if "equalize" in units:
        equalize(model)
    if "activation_scaling" in units:
        scale_activations(model, batches, quantizers)


def calibrate_data_free(
    place: Workplace,
    quantizers: Mapping[str, Quantizer],
    units: tuple[str, ...],
    measure: Measure,
) -> Calibrated:
    """Quantizes a model with the units that need no data.

    Args:
        place: `Workplace` of the model, which is as before afterwards.
        quantizers: Mapping of a kernel's path to its `Quantizer`.
        units: Tuple of names of `DATA_FREE_UNITS`.
        measure: Callable that takes a model and returns further figures.

    Returns:
        `Calibrated`.
    """
    with place.opened() as work:
        expected = expected_inputs(work)
        if "fold_batch_norm" in units:
            fold_batch_norm(work)
        if "equalize" in units:
            _divide(expected, equalize(work))
        kernels = [k for k in find_kernels(work) if k.path in quantizers]
        originals = {k.path: to_numpy(k.variable).copy() for k in kernels}
        tensors = {
            k.path: encode_kernel(k, quantizers[k.path]) for k in kernels
        }
        if "correct_bias" in units:
            correct_bias_data_free(work, originals, tensors, expected)
        for kernel in kernels:
            kernel.variable.assign(tensors[kernel.path].dequantize())
        figures = dict(measure(work))
        state = place.state(work)
    return Calibrated(state, tensors, originals, units, figures)


def _divide(
    expected: Means, links: Sequence[tuple[ChannelLink, NDArray[np.float64]]]
) -> None:
    """Inputs become smaller as the layers before divide them."""
    for link, factors in links:
        for reader in link.readers:
            if id(reader) in expected:
                mean = expected[id(reader)]
                mean /= np.tile(factors, len(mean) // len(factors))

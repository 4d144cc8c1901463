"""Bits of each layer, for a given average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_squeeze.calibration.output_error import output_snr_db
from keras_squeeze.calibration.workplace import workplace
from keras_squeeze.quantizers import Quantizer
from keras_squeeze.quantizers.mixed_bits import choose_bits
from keras_squeeze.surgery.kernel_quantization import encode_kernel
from keras_squeeze.surgery.layer_tree import find_kernels, to_numpy

CHOICES = (1, 2, 3, 4, 5, 6, 7, 8)
#: With so many bits a layer is tried alone: errors of fewer add up badly.
_PROBE_BITS = 4
_PROBE_BATCHES = 2


def layer_bits(
    model: Any,
    layers: Mapping[str, Sequence[str]],
    quantizers: Mapping[str, Quantizer],
    average_bits: float,
    batches: list[Any] | None,
    inplace: bool = False,
) -> dict[str, int]:
    """Chooses bits so that the error of the model's outputs is small.

    The error of a layer is that of its weights relative to their energy. With
    calibration data it is weighed by what it does to the outputs when this
    layer alone is quantized; else all layers count alike.

    Args:
        model: A built `keras.Model`, as before afterwards.
        layers: Mapping of a layer's path to the paths of its kernels.
        quantizers: Mapping of a layer's path to a `Quantizer`, of any number
            of bits.
        average_bits: Float. The mean over all weights, not to exceed.
        batches: Optional list of batches of inputs.
        inplace: Boolean. Whether the model itself may be tried on if it cannot
            be copied. Defaults to `False`.

    Returns:
        Dictionary of a layer's path to an integer from 1 to 8.

    Raises:
        SqueezeError: If the average is below 1, or a quantizer has another
            number of bits always.
    """
    kernels = {kernel.path: kernel for kernel in find_kernels(model)}
    errors = np.zeros((len(layers), len(CHOICES)))
    sizes = []
    for row, (path, members) in enumerate(layers.items()):
        chosen = [kernels[name] for name in members]
        for column, bits in enumerate(CHOICES):
            quantizer = with_bits(quantizers[path], bits)
            errors[row, column] = max(_error(k, quantizer) for k in chosen)
        sizes.append(sum(int(np.prod(k.variable.shape)) for k in chosen))
    if batches is not None:
        with workplace(model, inplace).opened() as work:
            errors *= _weights(work, layers, quantizers, batches, errors)
    found = choose_bits(errors, sizes, average_bits, CHOICES)
    return dict(zip(layers, found, strict=True))


def with_bits(quantizer: Quantizer, bits: int) -> Quantizer:
    """A quantizer that differs in its bits only.

    Args:
        quantizer: `Quantizer`.
        bits: Integer from 1 to 8.

    Returns:
        `Quantizer`.

    Raises:
        SqueezeError: If the quantizer cannot have so many bits.
    """
    return type(quantizer).from_config({**quantizer.get_config(), "bits": bits})


def _error(kernel: Any, quantizer: Quantizer) -> float:
    exact = to_numpy(kernel.variable).astype(np.float64)
    error = encode_kernel(kernel, quantizer).dequantize() - exact
    energy = float(np.sum(np.square(exact)))
    return float(np.sum(np.square(error))) / energy if energy else 0.0


def _weights(
    work: Any,
    layers: Mapping[str, Sequence[str]],
    quantizers: Mapping[str, Quantizer],
    batches: list[Any],
    errors: np.ndarray,
) -> np.ndarray:
    """What the outputs lose for each unit of a layer's own error."""
    kernels = {kernel.path: kernel for kernel in find_kernels(work)}
    probe = batches[:_PROBE_BATCHES]
    wanted = _outputs(work, probe)
    found = np.zeros((len(layers), 1))
    for row, (path, members) in enumerate(layers.items()):
        quantizer = with_bits(quantizers[path], _PROBE_BITS)
        before = {name: to_numpy(kernels[name].variable) for name in members}
        for name in members:
            tensor = encode_kernel(kernels[name], quantizer)
            kernels[name].variable.assign(tensor.dequantize())
        lost = 10 ** (-output_snr_db(_outputs(work, probe), wanted) / 10)
        own = errors[row, CHOICES.index(_PROBE_BITS)]
        found[row] = lost / own if own else 0.0
        for name, value in before.items():
            kernels[name].variable.assign(value)
    return found


def _outputs(model: Any, batches: list[Any]) -> list[list[Any]]:
    return [
        keras.tree.flatten(model(batch, training=False)) for batch in batches
    ]

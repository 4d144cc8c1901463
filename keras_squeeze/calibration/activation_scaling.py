"""Channels with large activations get finer weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.channel_links import (
    ChannelLink,
    channel_links,
    reader_inputs,
)
from keras_squeeze.calibration.channels import (
    first_kernel,
    input_axis,
    last_kernel,
    output_axes,
)
from keras_squeeze.calibration.input_statistics import (
    InputStatistics,
    statistics_of,
)
from keras_squeeze.calibration.kernel_matrix import kernel_matrix
from keras_squeeze.calibration.samples import sample_batches
from keras_squeeze.quantizers import Quantizer
from keras_squeeze.surgery.kernel_quantization import channel_axis
from keras_squeeze.surgery.layer_tree import Kernel, find_kernels, to_numpy

_EXPONENTS = (0.25, 0.5, 0.75, 1.0)


def scale_activations(
    model: Any, data: Any, quantizers: Mapping[str, Quantizer]
) -> int:
    """Scales inputs of layers up or down against their weights, in place.

    The weights of channels whose activations are large are multiplied, what
    makes these channels divides by the same: a layer with a homogeneous
    activation, or a normalization with factors. Relative to a scale that they
    share with other channels they are rounded finer then. The factors are a
    power of the activations' magnitude; the exponent of the least error of
    the layers' outputs is taken, if it is less than without. Predictions stay
    as they are, up to rounding.

    Args:
        model: A built `keras.Model`: Sequential or Functional, nested or not.
        data: Calibration data, or a list of batches of it.
        quantizers: Mapping of a kernel's path to the `Quantizer` that it
            will meet.

    Returns:
        Integer, the number of layers whose outputs were scaled.

    References:
        - Lin et al., 2023, AWQ: activation-aware weight quantization:
          https://arxiv.org/abs/2306.00978
    """
    by_variable = {
        id(kernel.variable): kernel
        for kernel in find_kernels(model)
        if kernel.path in quantizers
    }
    links = {
        id(link): (link, kernels)
        for link in channel_links(model, normalizations=True)
        if (kernels := _kernels_of(link, by_variable))
    }
    wanted = {id(k.layer) for _, ks in links.values() for k in ks}
    if not wanted:
        return 0
    batches = data if isinstance(data, list) else sample_batches(model, data)
    found = [k for k in by_variable.values() if id(k.layer) in wanted]
    statistics = statistics_of(model, batches, found)
    count = 0
    for link, kernels in links.values():
        factors = _best_factors(link, kernels, statistics, quantizers)
        if factors is not None:
            link.rescale(factors)
            count += 1
    return count


def _kernels_of(
    link: ChannelLink, by_variable: Mapping[int, Kernel]
) -> list[Kernel]:
    found = [by_variable.get(id(first_kernel(r))) for r in link.readers]
    return [kernel for kernel in found if kernel is not None]


def _best_factors(
    link: ChannelLink,
    kernels: list[Kernel],
    statistics: Mapping[str, InputStatistics],
    quantizers: Mapping[str, Quantizer],
) -> NDArray[np.float64] | None:
    found = [statistics.get(kernel.path) for kernel in kernels]
    if len(kernels) < len(link.readers) or any(
        s is None or s.gram is None for s in found
    ):
        return None
    magnitude = _magnitude(link, kernels, statistics)
    best, least = None, _error(kernels, statistics, quantizers, None)
    for exponent in _EXPONENTS:
        factors = magnitude**exponent
        error = _error(kernels, statistics, quantizers, factors)
        if error < least:
            best, least = factors, error
    return best


def _magnitude(
    link: ChannelLink,
    kernels: list[Kernel],
    statistics: Mapping[str, InputStatistics],
) -> NDArray[np.float64]:
    """Root mean square of each channel, relative to the typical one."""
    channels = _channels(link)
    energy = np.zeros(channels)
    for kernel in kernels:
        rows = _per_input(kernel, statistics[kernel.path].energy)
        energy += rows.reshape(-1, channels).mean(axis=0)
    alive = energy > 0
    if not alive.any():
        return np.ones(channels)
    typical = np.exp(np.log(energy[alive]).mean())
    found: NDArray[np.float64] = np.sqrt(np.where(alive, energy / typical, 1.0))
    return found


def _channels(link: ChannelLink) -> int:
    gamma = getattr(link.producer, "gamma", None)
    if gamma is not None:
        return int(gamma.shape[0])
    shape = last_kernel(link.producer).shape
    return int(np.prod([shape[a] for a in output_axes(link.producer)]))


def _per_input(
    kernel: Kernel, energy: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean energy of each input channel of a kernel, over its taps."""
    view = kernel_matrix(kernel)
    shape = (*energy.shape, view.outputs)
    spread = view.from_matrix(np.broadcast_to(energy[..., None], shape))
    moved = np.moveaxis(spread, input_axis(kernel.layer), 0)
    found: NDArray[np.float64] = moved.reshape(len(moved), -1).mean(axis=1)
    return found


def _error(
    kernels: list[Kernel],
    statistics: Mapping[str, InputStatistics],
    quantizers: Mapping[str, Quantizer],
    factors: NDArray[np.float64] | None,
) -> float:
    """The squared error of the readers' outputs, each relative to its own."""
    total = 0.0
    for kernel in kernels:
        exact = to_numpy(kernel.variable).astype(np.float64)
        spread = _spread(kernel, factors)
        tensor = quantizers[kernel.path].encode(
            exact * spread, channel_axis(kernel), kernel.path
        )
        view = kernel_matrix(kernel)
        weights = view.to_matrix(exact)
        error = view.to_matrix(tensor.dequantize() / spread) - weights
        gram = statistics[kernel.path].gram
        energy = float(np.sum(weights * (gram @ weights)))
        noise = float(np.sum(error * (gram @ error)))
        total += noise / energy if energy else 0.0
    return total


def _spread(kernel: Kernel, factors: NDArray[np.float64] | None) -> Any:
    if factors is None:
        return 1.0
    size = reader_inputs(kernel.layer)
    shape = [1] * len(kernel.variable.shape)
    shape[input_axis(kernel.layer)] = size
    return np.tile(factors, size // len(factors)).reshape(shape)

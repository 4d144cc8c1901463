"""Kernels of a live model to codes and scales; the model is not changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from keras_squeeze import quantizers
from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.conversion import kernel_axis
from keras_squeeze.quantizers import QuantizedTensor, Quantizer
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    find_kernels,
    to_numpy,
)

DEFAULT_QUANTIZER = "mse"


def encode_kernels(
    model: Any,
    bits: int | None = None,
    quantizer: Any = None,
    filters: Filters = None,
    granularity: str | None = None,
    group_size: int | None = None,
    importance: Mapping[str, NDArray[Any]] | None = None,
) -> dict[int, QuantizedTensor]:
    """Quantizes copies of a model's kernels, recurrent ones included.

    Args:
        model: A built `keras.Model`.
        bits: Optional integer from 1 to 8, or 16. Defaults to the
            quantizer's own, mostly `8`.
        quantizer: String, config or `Quantizer`; a `Quantizer` brings its own
            bits and granularity. Defaults to `"mse"`.
        filters: Optional regex on the kernel's path or callable
            `layer -> bool`. Defaults to all kernels.
        granularity: Optional string. Defaults to the quantizer's own, mostly
            `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        importance: Optional mapping of kernel paths to arrays of their shape:
            how much the squared error of each weight matters.

    Returns:
        Dictionary of the `id` of a kernel's variable to its
        `QuantizedTensor`, in model order.

    Raises:
        NoKernelMatchedError: If `filters` leaves no kernel.
        NonFiniteError: If a kernel holds NaN or infinity.
        SqueezeError: If the quantizer does not weigh errors, or the mapping
            has another path than those of kernels.
    """
    chosen = choose_quantizer(quantizer, bits, granularity, group_size)
    kernels = find_kernels(model, filters)
    weights = dict(importance or {})
    _check_importance(weights, chosen, [kernel.path for kernel in kernels])
    return {
        id(kernel.variable): encode_kernel(
            kernel, chosen, weights.get(kernel.path)
        )
        for kernel in kernels
    }


def _check_importance(
    importance: Mapping[str, Any], quantizer: Quantizer, paths: list[str]
) -> None:
    if importance and not quantizer.takes_importance:
        raise SqueezeError(
            "Expected a quantizer that weighs errors beside `importance`, as "
            f"'mse' or 'kmeans'. Received: {quantizer}"
        )
    unknown = sorted(set(importance).difference(paths))
    if unknown:
        raise SqueezeError(
            f"Expected the paths of kernels, {paths}, in `importance`. "
            f"Received: {unknown}"
        )


def choose_quantizer(
    quantizer: Any,
    bits: int | None,
    granularity: str | None,
    group_size: int | None,
) -> Quantizer:
    """The quantizer behind the arguments of a verb.

    Args:
        quantizer: String, config, `Quantizer`, or `None` for the default.
        bits: Integer, or `None` for the quantizer's default.
        granularity: String, or `None` for the quantizer's default.
        group_size: Integer or `None`.

    Returns:
        `Quantizer`.
    """
    return quantizers.get(
        DEFAULT_QUANTIZER if quantizer is None else quantizer,
        bits=bits,
        granularity=granularity,
        group_size=group_size,
    )


def encode_kernel(
    kernel: Kernel,
    quantizer: Quantizer,
    importance: NDArray[Any] | None = None,
) -> QuantizedTensor:
    """Quantizes a copy of one kernel.

    Args:
        kernel: `Kernel`.
        quantizer: `Quantizer`.
        importance: Optional array of the kernel's shape, for a quantizer that
            takes it. Defaults to `None`.

    Returns:
        `QuantizedTensor`.

    Raises:
        NonFiniteError: If the kernel holds NaN or infinity.
    """
    array = to_numpy(kernel.variable)
    weights = {} if importance is None else {"importance": importance}
    return quantizer.encode(array, channel_axis(kernel), kernel.path, **weights)


def channel_axis(kernel: Kernel) -> tuple[int, ...]:
    """The axes of a kernel that index its output channels.

    Args:
        kernel: `Kernel`.

    Returns:
        Ascending tuple of axes.
    """
    shape = tuple(kernel.variable.shape)
    return kernel_axis(kernel.layer, kernel.attribute, shape)

"""Quantization that keeps the outputs of a layer rather than its weights.

An error in one weight can be made up for by the weights of other inputs, as
far as inputs are alike. Inputs are quantized one after the other; after each
of them the rest moves to where it corrects the error best.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.kernel_geometry import (
    KernelGeometry,
    default_kind,
    from_canonical,
    geometry_of,
    to_canonical,
)
from keras_squeeze.codecs.trellis import STATES, Trellis
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.gram_matrix import GramMatrix
from keras_squeeze.quantizers.output_aware_feedback import (
    RowChooser,
    ScalarRows,
    TrellisRows,
    chain_order,
    feed_back,
)
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.quantizer import finite_float32
from keras_squeeze.quantizers.rate_distortion import (
    EXCHANGE_RATE,
    PASSES,
    packed_codes,
    rounded_step,
)
from keras_squeeze.quantizers.rate_distortion_tables import (
    EVEN,
    ODD,
    SCALAR,
    expected_magnitude_classes,
    first_codes,
    observed_rates,
    prior_rates,
    table_size,
)
from keras_squeeze.quantizers.trellis import TRELLIS_EXCHANGE_RATE
from keras_squeeze.quantizers.trellis_chains import chain_count


def quantize_output_aware(
    kernel: NDArray[Any],
    gram: NDArray[Any] | GramMatrix,
    step: float,
    rate_weight: float = 1.0,
    damping: float = 0.01,
    states: int | None = None,
    name: str = "",
) -> QuantizedTensor:
    """Quantizes a kernel for the least error of its layer's outputs.

    Codes minimise `sum((x @ error)**2) + multiplier * bits` over the inputs
    `x` that the Gram matrix sums up, greedily: input by input, the choice of a
    code weighs the error that later inputs cannot correct against its bits.
    Weights that are zero, and those of inputs that never differ from zero,
    get the code 0.

    Args:
        kernel: Array of floats of shape `(..., channels)`, as Keras lays out
            the kernels of dense layers and convolutions.
        gram: Array of shape `(inputs, inputs)`, where `inputs` is the product
            of all axes but the last: the sum (or mean) of `outer(x, x)` over
            samples, and over positions in case of a convolution. A
            `GramMatrix` of it saves work where the kernel is quantized again.
        step: Float. The scale of all codes.
        rate_weight: Float. What bits weigh, in units of the exchange rate of
            a fine uniform grid. Defaults to `1.0`.
        damping: Float. What is added to the diagonal of the Gram matrix, as a
            share of its mean: the fewer samples, the more. Defaults to
            `0.01`.
        states: Optional integer, the states of a trellis as in
            `TrellisQuantizer`. Defaults to `None`, scalar quantization.
        name: String. Where the kernel comes from, for the message of an
            error. Defaults to `""`.

    Returns:
        `QuantizedTensor` with one scale.

    Raises:
        NonFiniteError: If a value is NaN or infinite.
        SqueezeError: If the Gram matrix does not fit, or an argument is out
            of its range.

    Example:
    >>> inputs = np.random.default_rng(0).normal(size=(99, 4)) @ np.ones((4, 4))
    >>> kernel = np.array([[0.3], [0.3], [0.3], [0.3]])
    >>> tensor = quantize_output_aware(kernel, inputs.T @ inputs, step=1.0)
    >>> tensor.codes.sum().item()  # Rounding would leave nothing.
    1

    References:
        - Conzelmann and Bamler, 2025, Reducing storage of pretrained neural
          networks by rate-constrained quantization and entropy coding:
          https://arxiv.org/abs/2505.18758
        - Frantar et al., 2022, GPTQ: https://arxiv.org/abs/2210.17323
    """
    values = finite_float32(kernel, name)
    matrix = values.reshape(-1, values.shape[-1] if values.ndim else 1)
    inputs = GramMatrix.of(gram, name)
    inputs.check_inputs(len(matrix))
    _check_arguments(step, rate_weight, damping, states)
    scale = rounded_step(step, values)
    in_steps = (matrix / scale[0, 0]).astype(np.float32)
    codes = np.zeros(matrix.shape, np.int32)
    shape = values.shape or (1,)
    scan = _scan(shape, inputs, states)
    if codes.size:
        multiplier = rate_weight * scan.exchange_rate
        codes = _choose_codes(
            in_steps, inputs, shape, scan, multiplier, damping
        )
    return packed_codes(
        codes.reshape(values.shape), scale, trellis=scan.trellis
    )


def output_error(
    kernel: NDArray[Any],
    tensor: QuantizedTensor,
    gram: NDArray[Any] | GramMatrix,
) -> float:
    """The squared error of the outputs, relative to their square.

    Args:
        kernel: Array of floats, the original.
        tensor: `QuantizedTensor` of the same shape.
        gram: Array of shape `(inputs, inputs)`, or the `GramMatrix` of it.

    Returns:
        Float, 0 without any output.
    """
    products = gram.matrix if isinstance(gram, GramMatrix) else gram
    matrix = np.asarray(kernel, np.float64)
    matrix = matrix.reshape(-1, matrix.shape[-1])
    error = tensor.dequantize().astype(np.float64).reshape(matrix.shape)
    error -= matrix
    energy = float(np.sum(matrix * (products @ matrix)))
    return float(np.sum(error * (products @ error))) / energy if energy else 0.0


class _Scan(NamedTuple):
    """How the inputs are taken, and how the coder will see their codes."""

    geometry: KernelGeometry
    order: NDArray[np.intp]
    grids: tuple[int, ...]
    exchange_rate: float
    trellis: Trellis | None


def _scan(
    shape: tuple[int, ...],
    inputs: GramMatrix,
    states: int | None,
) -> _Scan:
    kind = default_kind(shape)
    if states is None:
        # The errors of strong inputs are the hardest to make up for.
        order = np.argsort(-inputs.matrix.diagonal(), kind="stable")
        geometry = geometry_of(shape, kind)
        return _Scan(geometry, order, (SCALAR,), EXCHANGE_RATE, None)
    # Chains along the channels of an input: errors feed back between inputs.
    kind = "convolution_transposed" if len(shape) > 2 else "matrix_transposed"
    geometry = geometry_of(shape, kind)
    trellis = Trellis(states, kind, chain_count(geometry))
    order = chain_order(geometry)
    return _Scan(geometry, order, (EVEN, ODD), TRELLIS_EXCHANGE_RATE, trellis)


def _choose_codes(
    in_steps: NDArray[np.float32],
    inputs: GramMatrix,
    shape: tuple[int, ...],
    scan: _Scan,
    multiplier: float,
    damping: float,
) -> NDArray[np.int32]:
    order = scan.order
    correction = inputs.corrections(order, damping)
    alive = inputs.matrix.diagonal() > 0
    target = np.where(alive[:, None], in_steps, np.float32(0))[order]
    codes = first_codes(in_steps)
    count = table_size(in_steps)
    bits = prior_rates(scan.grids, count)
    for _ in range(PASSES):
        canonical = np.abs(to_canonical(codes.reshape(shape), scan.geometry))
        classes = expected_magnitude_classes(canonical.astype(np.float32))
        rows = from_canonical(classes, scan.geometry, shape)
        rows = rows.reshape(codes.shape)[order]
        costs = (np.float32(multiplier) * bits).astype(np.float32)
        chooser = _chooser(scan, costs)
        found = feed_back(target, correction, rows, chooser)
        codes[order] = found
        levels, grids = np.abs(found), None
        if isinstance(chooser, TrellisRows):
            grids = np.stack([chooser.grids[i] for i in range(len(found))])
            levels = (levels + grids) >> 1
        bits = observed_rates(levels, grids, rows, scan.grids, count)
    return codes


def _chooser(scan: _Scan, costs: NDArray[np.float32]) -> RowChooser:
    if scan.trellis is None:
        return ScalarRows(np.ascontiguousarray(costs[:, 0]))
    trellis = scan.trellis
    return TrellisRows(
        costs, trellis.states, trellis.chains, scan.geometry.taps
    )


def _check_arguments(
    step: float, rate_weight: float, damping: float, states: int | None
) -> None:
    if states is not None and states not in STATES:
        raise SqueezeError(
            f"Expected `states` to be one of {STATES} or None. Received: "
            f"states={states!r}"
        )
    for label, value in (("step", step), ("damping", damping)):
        if not 0 < value < np.inf:
            raise SqueezeError(
                f"Expected a positive, finite `{label}`. Received: "
                f"{label}={value!r}"
            )
    if not 0 <= rate_weight < np.inf:
        raise SqueezeError(
            "Expected `rate_weight` to be finite and not negative. Received: "
            f"rate_weight={rate_weight!r}"
        )

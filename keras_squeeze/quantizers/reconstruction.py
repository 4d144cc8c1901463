"""Rounding that keeps the outputs of a layer rather than its weights.

A quantizer chooses the grid; where on it each weight goes is chosen for the
least squared error of the outputs on real inputs. What one weight loses,
those of like inputs make up for.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.kernel_matrix import KernelMatrix
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.quantizer import Quantizer, finite_float32
from keras_squeeze.quantizers.reconstruction_candidate import Candidate
from keras_squeeze.quantizers.reconstruction_problem import (
    ReconstructionProblem,
)
from keras_squeeze.quantizers.scale import codebook_scale, round_scale

ORDERS = ("activation", "natural")
#: Factors of a quantizer's scale that are tried, by the error of the outputs.
SCALE_FACTORS = (1.0, 1.1, 1.05, 0.95, 0.9, 0.85, 0.8, 0.7)
#: How often scales and codes are chosen anew after error feedback.
PASSES = 2


def quantize_reconstructing(
    kernel: NDArray[Any],
    gram: NDArray[Any],
    quantizer: Quantizer,
    axis: int | tuple[int, ...] = (-1,),
    matrix: KernelMatrix | None = None,
    order: str = "activation",
    damping: float = 0.01,
    scale_factors: tuple[float, ...] = SCALE_FACTORS,
    passes: int = PASSES,
    name: str = "",
) -> QuantizedTensor:
    """Quantizes a kernel for the least squared error of its layer's outputs.

    The quantizer chooses scale, zero point and codebook; a few factors of the
    scale are tried for each channel. Inputs are then rounded one after the
    other, and after each of them the rest moves to where it corrects the
    error best; finally scales and codes are chosen anew in turns, each code
    given all others. Weights that are zero stay zero. No channel's output
    error is larger than after `quantizer.encode`.

    Args:
        kernel: Array of floats of any shape, finite in float32.
        gram: Array of shape `(inputs, inputs)` or `(groups, inputs, inputs)`:
            the sum (or mean) of `outer(x, x)` over what the kernel's matrices
            multiply.
        quantizer: `Quantizer`.
        axis: Integer or tuple. The axes that index the channels, as for
            `Quantizer.encode`. Defaults to `(-1,)`.
        matrix: Optional `KernelMatrix`, the kernel as matrices. Defaults to
            `None`: all axes but the last are inputs.
        order: String. `"activation"` rounds the inputs of the largest energy
            first, `"natural"` keeps their order. Defaults to `"activation"`.
        damping: Float. What is added to the diagonal of the Gram matrices, as
            a share of its mean: the fewer samples, the more. Defaults to
            `0.01`.
        scale_factors: Tuple of floats, factors of the scale to try. Defaults
            to eight from 1.1 to 0.7.
        passes: Integer. How often scales and codes are chosen anew after
            error feedback. Defaults to `2`.
        name: String. Where the kernel comes from, for the message of an
            error. Defaults to `""`.

    Returns:
        `QuantizedTensor` like `quantizer.encode(kernel, axis)`.

    Raises:
        NonFiniteError: If a weight is NaN or infinite.
        SqueezeError: If the Gram matrix does not fit, or an argument is out
            of its range.

    Example:
    >>> from keras_squeeze.quantizers import AbsMaxQuantizer
    >>> inputs = np.random.default_rng(0).normal(size=(99, 4)) @ np.ones((4, 4))
    >>> kernel = np.array([[0.4], [0.4], [0.4], [7.0]])
    >>> quantizer = AbsMaxQuantizer(bits=4)
    >>> quantizer.encode(kernel, -1).codes.sum().item()
    7
    >>> gram = inputs.T @ inputs
    >>> quantize_reconstructing(kernel, gram, quantizer).codes.sum().item()
    8

    References:
        - Frantar et al., 2022, GPTQ: https://arxiv.org/abs/2210.17323
        - Frantar and Alistarh, 2022, Optimal Brain Compression:
          https://arxiv.org/abs/2208.11580
        - Behdin et al., 2023, QuantEase: https://arxiv.org/abs/2309.01885
    """
    values = finite_float32(kernel, name)
    view = matrix or KernelMatrix.flat(values.shape)
    _check_arguments(order, damping, passes, scale_factors)
    plain = quantizer.encode(values, axis, name)
    if not values.size:
        return plain
    stack = _stack(gram, view, name)
    problem = ReconstructionProblem(
        values, stack, view, _order(stack, order), damping, name
    )
    best = problem.candidate(plain)
    weighted = _weighted(values, axis, stack, view, quantizer, name)
    for tensor in [*weighted, *_scaled_by(plain, scale_factors, quantizer)]:
        best = best.better_channels(_solve(problem, tensor, quantizer), view)
    return _polish(problem, best, quantizer, passes).tensor


def _solve(
    problem: ReconstructionProblem,
    tensor: QuantizedTensor,
    quantizer: Quantizer,
) -> Candidate:
    """Codes on one grid: of each column rounded or fed back, the better."""
    rounded = problem.candidate(problem.rounded(tensor, quantizer))
    fed_back = problem.candidate(problem.fed_back(tensor, quantizer))
    return rounded.better_columns(fed_back, problem.view)


def _polish(
    problem: ReconstructionProblem,
    best: Candidate,
    quantizer: Quantizer,
    passes: int,
) -> Candidate:
    """Chooses scale and codes anew in turns, each given the other."""
    for _ in range(passes):
        factors = problem.scale_factors(best.tensor)[:, None]
        tensor = _scaled(best.tensor, factors, quantizer)
        for start in (best.tensor, tensor):
            found = problem.descended(start, quantizer, 1)
            better = problem.candidate(found)
            best = best.better_channels(better, problem.view)
    return best


def _weighted(
    values: NDArray[np.float32],
    axis: int | tuple[int, ...],
    gram: NDArray[np.float64],
    view: KernelMatrix,
    quantizer: Quantizer,
    name: str,
) -> list[QuantizedTensor]:
    """The grid that weighs errors by their inputs' energy, if there is one."""
    encode: Any = quantizer.encode
    if "importance" not in inspect.signature(encode).parameters:
        return []
    energy = np.einsum("gii->gi", gram)[:, :, None]
    # No weight is worth nothing: other data may excite its input.
    energy = energy + 1e-3 * energy.mean() if energy.any() else energy + 1.0
    importance = view.from_matrix(np.broadcast_to(energy, view.matrix_shape))
    return [encode(values, axis, name, importance=importance)]


def _scaled_by(
    tensor: QuantizedTensor, factors: tuple[float, ...], quantizer: Quantizer
) -> list[QuantizedTensor]:
    return [_scaled(tensor, np.array(factor), quantizer) for factor in factors]


def _scaled(
    tensor: QuantizedTensor, factor: NDArray[np.float64], quantizer: Quantizer
) -> QuantizedTensor:
    scale = tensor.scale.astype(np.float64) * factor
    if tensor.codebook is not None:
        rounded = codebook_scale(scale, tensor.codebook, up=False)
    else:
        # The codes on one side of a zero point may be all of them.
        largest = (
            2**tensor.bits - 1 if quantizer.affine else quantizer.largest_code
        )
        rounded = round_scale(scale, largest, up=False)
    return dataclasses.replace(tensor, scale=rounded)


def _order(gram: NDArray[np.float64], order: str) -> NDArray[np.intp]:
    energy = np.einsum("gii->gi", gram)
    if order == "natural":
        return np.broadcast_to(np.arange(energy.shape[1]), energy.shape)
    # The errors of strong inputs are the hardest to make up for.
    return np.argsort(-energy, axis=1, kind="stable")


def _stack(
    gram: NDArray[Any], view: KernelMatrix, name: str
) -> NDArray[np.float64]:
    stack = np.asarray(gram, np.float64)
    stack = stack[None] if stack.ndim == 2 else stack
    expected = (view.groups, view.inputs, view.inputs)
    if stack.shape != expected:
        raise SqueezeError(
            f"Expected Gram matrices of shape {expected} for "
            f"{name or 'the kernel'}. Received: {np.shape(gram)}"
        )
    diagonal = np.einsum("gii->gi", stack)
    if not np.isfinite(stack).all() or (diagonal < 0).any():
        raise SqueezeError(
            "Expected finite Gram matrices with no negative squares for "
            f"{name or 'the kernel'}. Received: a diagonal from "
            f"{diagonal.min()} to {diagonal.max()}"
        )
    symmetric: NDArray[np.float64] = (stack + stack.swapaxes(1, 2)) / 2
    return symmetric


def _check_arguments(
    order: str, damping: float, passes: int, factors: tuple[float, ...]
) -> None:
    if order not in ORDERS:
        raise SqueezeError(
            f"Expected `order` to be one of {ORDERS}. Received: order={order!r}"
        )
    if not 0 < damping < np.inf:
        raise SqueezeError(
            "Expected a positive, finite `damping`. Received: "
            f"damping={damping!r}"
        )
    if passes < 0 or not all(0 < f < np.inf for f in factors):
        raise SqueezeError(
            "Expected `passes` of 0 or more and positive `scale_factors`. "
            f"Received: passes={passes!r}, scale_factors={factors!r}"
        )

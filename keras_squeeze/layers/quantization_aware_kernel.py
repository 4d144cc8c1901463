"""A float kernel in training together with the grid it is rounded to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops
from keras.src.backend.common.variables import AutocastScope
from numpy.typing import NDArray

from keras_squeeze.layers.codebook_levels import round_significant
from keras_squeeze.layers.kernel_layout import KernelLayout
from keras_squeeze.layers.quantization_aware_codebook import share_levels
from keras_squeeze.layers.quantization_aware_codes import (
    check_finite,
    codebook_codes,
    grid_limits,
    relative_weights,
    uniform_codes,
)
from keras_squeeze.layers.quantization_aware_rounding import (
    learned_step,
    round_to_fixed_grid,
    round_to_grid,
    round_to_learned_grid,
    round_to_levels,
)
from keras_squeeze.layers.stored_kernel import StoredKernel
from keras_squeeze.quantizers import QuantizedTensor, Quantizer
from keras_squeeze.quantizers.blocks import split_blocks
from keras_squeeze.quantizers.layout import (
    canonical_shape,
    from_canonical,
    group_count,
    to_canonical,
)
from keras_squeeze.quantizers.nearest_level import level_cells
from keras_squeeze.quantizers.scale import round_scale

# Of the levels of a learned codebook, besides the width of a code.
_LEVEL_DIGITS = 8


@dataclasses.dataclass(frozen=True)
class Part:
    """A variable that a kernel in training has besides itself.

    Args:
        shape: Tuple of integers.
        dtype: String.
        trainable: Boolean. Whether it is learned.
    """

    shape: tuple[int, ...]
    dtype: str
    trainable: bool = False


@dataclasses.dataclass(frozen=True)
class TrainedKernel:
    """A kernel that is rounded to a grid wherever it is read.

    Uniform grids have a step for each scale of the quantizer: `scale` times
    `exp(log_step)`. Levels of a learned codebook are held in units of the
    kernel's spread: optimizers such as Adam, which move every variable by
    about the learning rate, would throw small ones off their places.

    Args:
        layout: `KernelLayout` in the kernel's own order of axes.
        learns: Boolean. Whether steps or levels are learned.
        variable: The `keras.Variable` of the float kernel.
        parts: Mapping of a part's name to its `keras.Variable`.
    """

    layout: KernelLayout
    learns: bool
    variable: Any
    parts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def quantizer(self) -> Quantizer:
        """The quantizer whose kind of grid it is."""
        return self.layout.quantizer

    @property
    def has_codebook(self) -> bool:
        """Whether weights are entries of a codebook."""
        return (
            self.quantizer.learns_codebook or self.layout.codebook is not None
        )

    def specs(self) -> dict[str, Part]:
        """The parts that such a kernel has, by name."""
        layout, quantizer = self.layout, self.layout.quantizer
        channels, rest = canonical_shape(layout.shape, layout.axis)
        scales = (channels, group_count(rest, quantizer.group_size))
        parts = {"scale": Part(scales, "float32")}
        if quantizer.affine:
            parts["zero_point"] = Part(scales, "int16")
        if quantizer.learns_codebook:
            shape = (quantizer.codebook_rows(channels), 2**quantizer.bits)
            parts["codebook"] = Part(shape, "float32", self.learns)
            parts["hardness"] = Part((), "float32")
        elif self.learns:
            parts["log_step"] = Part(scales, "float32", True)
        return parts

    def values(
        self, tensor: QuantizedTensor, weights: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """The values of the parts with which training begins.

        Args:
            tensor: `QuantizedTensor` of the kernel: the grid to begin with.
            weights: Array, the kernel.

        Returns:
            Dictionary of part name to array.

        Raises:
            SqueezeError: If the tensor does not fit.
        """
        self.layout.values(tensor)
        bits = tensor.bits
        scale = tensor.scale if bits == 1 else without_zeros(tensor.scale)
        codebook = tensor.codebook
        if codebook is not None and self._levels_hold_scales(len(codebook)):
            unit = level_unit(weights)
            codebook = codebook * tensor.scale / unit
            scale = np.full_like(scale, unit)
        given: dict[str, Any] = {
            "scale": scale,
            "zero_point": tensor.zero_point,
            "codebook": codebook,
            "hardness": np.float32(1),
        }
        return {
            name: np.zeros(part.shape, part.dtype)
            if given.get(name) is None
            else np.asarray(given[name], part.dtype)
            for name, part in self.specs().items()
        }

    def _levels_hold_scales(self, rows: int) -> bool:
        """Whether a learned codebook needs no scale besides its levels."""
        learns = self.quantizer.learns_codebook
        return learns and self.specs()["scale"].shape == (rows, 1)

    def empty_values(self) -> dict[str, NDArray[Any]]:
        """Values of the parts that are to be loaded from a file."""
        specs = self.specs().items()
        return {name: np.zeros(spec.shape, spec.dtype) for name, spec in specs}

    def initial(self, part: str) -> Any:
        """The value of a part for a kernel that was just initialized.

        Args:
            part: String, one of `specs()`.

        Returns:
            Array or tensor of the part's shape.
        """
        spec = self.specs()[part]
        weights = to_array(self.variable)
        scale = without_zeros(self._spanning_scale(weights))
        given: dict[str, Any] = {"scale": scale, "hardness": np.float32(1)}
        if self.quantizer.learns_codebook:
            codebook = self._spanning_codebook(scale)
            if self._levels_hold_scales(len(codebook)):
                given["scale"] = np.full_like(scale, level_unit(weights))
                codebook = codebook / given["scale"]
            given["codebook"] = codebook
        return given.get(part, np.zeros(spec.shape, spec.dtype))

    def _spanning_codebook(
        self, scale: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        rows, levels = self.specs()["codebook"].shape
        # Equal intervals, with zero at the code 0.
        even = np.linspace(-1, 1, levels + 1, dtype=np.float32)[None, :-1]
        holds = self._levels_hold_scales(rows)
        return even * scale if holds else np.repeat(even, rows, axis=0)

    def _spanning_scale(self, weights: NDArray[Any]) -> NDArray[np.float32]:
        blocks = split_blocks(
            to_canonical(weights.astype(np.float32), self.layout.axis),
            self.quantizer.group_size,
        )[0]
        peak = np.abs(blocks).max(axis=1, initial=0.0)
        highest = float(self.quantizer.largest_code)
        if self.has_codebook:
            learns = self.quantizer.learns_codebook
            highest = 1.0 if learns else float(self.codebook().max())
        scale = round_scale(peak / highest, math.ceil(highest))
        return scale.reshape(self.specs()["scale"].shape)

    def step(self) -> Any:
        """The steps as they are now, of 8 significant bits; with gradients."""
        scale = as_float32(self.parts["scale"])
        if "log_step" not in self.parts:
            return scale
        return learned_step(
            scale,
            as_float32(self.parts["log_step"]),
            self._step_gradient_scale(),
        )

    def _step_gradient_scale(self) -> float:
        """What keeps the updates of steps in proportion to those of weights."""
        shape = self.parts["scale"].shape
        count = self.layout.count / max(1, math.prod(shape))
        levels = max(1, 2 ** (self.quantizer.bits - 1) - 1)
        return 1 / math.sqrt(max(1.0, count) * levels)

    def fake_quantized(self, dtype: str) -> Any:
        """The kernel as it will be when it is stored.

        Args:
            dtype: String. The dtype of the result.

        Returns:
            Tensor of the kernel's shape; gradients reach the float kernel and
            the parts that are learned.
        """
        weights = as_float32(self.variable)
        if "codebook" in self.parts:
            values = self._shared(weights)
        elif self.has_codebook:
            values = self._fixed(weights)
        else:
            values = self._rounded(weights)
        return ops.cast(values, dtype)

    def _rounded(self, weights: Any) -> Any:
        grid = (*self._limits(), self.quantizer.bits)
        if "log_step" not in self.parts:
            scale = self.per_value(self.step())
            return round_to_fixed_grid(weights, scale, *grid)
        if self.quantizer.group_size is not None:
            return round_to_grid(weights, self.per_value(self.step()), *grid)
        axis, sizes = self.layout.axis, enumerate(self.layout.shape)
        return round_to_learned_grid(
            weights,
            as_float32(self.parts["scale"]),
            as_float32(self.parts["log_step"]),
            *grid,
            self._step_gradient_scale(),
            tuple(size if i in axis else 1 for i, size in sizes),
        )

    def _fixed(self, weights: Any) -> Any:
        levels, thresholds = level_cells(
            self.codebook()[0], self.quantizer.bits
        )
        step = self.per_value(self.step())
        return round_to_levels(weights, step, levels, thresholds)

    def _shared(self, weights: Any) -> Any:
        codebook, layout = self.parts["codebook"], self.layout
        count = layout.count / math.prod(codebook.shape)
        scale, unit = None, as_float32(self.parts["scale"])
        if not self._levels_hold_scales(codebook.shape[0]):
            scale, unit = self.per_value(unit), 1.0
        one = codebook.shape[0] == 1
        sizes = enumerate(layout.shape)
        return share_levels(
            weights,
            scale,
            as_float32(codebook),
            tuple(1 if one or i not in layout.axis else n for i, n in sizes),
            unit,
            as_float32(self.parts["hardness"]),
            _LEVEL_DIGITS + self.quantizer.bits,
            1 / math.sqrt(max(1.0, count)),
        )

    def _limits(self) -> tuple[Any, Any]:
        """The lowest level of a uniform grid and the highest."""
        low, high = grid_limits(self.quantizer, "zero_point" in self.parts)
        if "zero_point" not in self.parts:
            return low, high
        zero = ops.cast(self.parts["zero_point"], "float32")
        zero = self.per_value(zero)
        return low - zero, high - zero

    def per_value(self, scales: Any) -> Any:
        """Scales in a shape that broadcasts against the kernel.

        Args:
            scales: Tensor of shape `(channels, groups)`.

        Returns:
            Tensor.
        """
        name = self.layout.variable_name("scale")
        return StoredKernel(self.layout, {name: scales}).scale()

    def codebook(self) -> NDArray[np.float32]:
        """The levels as they are used now, rows of an array."""
        learned = self.parts.get("codebook")
        if learned is None:
            fixed = self.layout.codebook
            assert fixed is not None  # noqa: S101
            return fixed
        digits = _LEVEL_DIGITS + self.quantizer.bits
        rounded: NDArray[np.float32] = to_array(
            round_significant(as_float32(learned), digits)
        )
        return rounded

    def tensor(self) -> QuantizedTensor:
        """The kernel as codes on the grid it has now.

        Returns:
            `QuantizedTensor`.

        Raises:
            SqueezeError: If a weight or a step is NaN or infinite.
        """
        layout, quantizer = self.layout, self.quantizer
        weights, scale = to_array(self.variable), to_array(self.step())
        check_finite(self.variable.path, weights, scale)
        relative = relative_weights(layout, weights, scale)
        codebook, zero_point = None, None
        if self.has_codebook:
            codebook, codes = codebook_codes(
                quantizer, relative, self.codebook()
            )
        else:
            zero_point = self._array("zero_point")
            codes = uniform_codes(quantizer, relative, zero_point)
        return QuantizedTensor(
            codes=from_canonical(codes, layout.shape, layout.axis),
            scale=scale,
            bits=quantizer.bits,
            axis=layout.axis,
            group_size=quantizer.group_size,
            zero_point=zero_point,
            codebook=codebook,
        )

    def _array(self, part: str) -> NDArray[Any] | None:
        variable = self.parts.get(part)
        return None if variable is None else to_array(variable)


def as_float32(variable: Any) -> Any:
    """A variable's value in float32, also where layers compute in less."""
    with AutocastScope(None):
        return ops.cast(ops.convert_to_tensor(variable), "float32")


def to_array(value: Any) -> NDArray[Any]:
    """A variable or a tensor as a NumPy array; bfloat16 as float32."""
    with AutocastScope(None):
        array = np.asarray(ops.convert_to_numpy(value))
    return array


def level_unit(weights: NDArray[Any]) -> np.float32:
    """The power of two next to the root mean square of weights."""
    mean = float(np.mean(np.square(weights.astype(np.float64))))
    exponent = round(math.log2(mean) / 2) if 0 < mean < math.inf else 0
    return np.float32(2.0 ** max(-100, min(100, exponent)))


def without_zeros(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales of channels of zeros, which would never leave them, replaced."""
    positive = scale[scale > 0]
    other = positive.max() if positive.size else np.float32(1)
    return np.where(scale > 0, scale, other).astype(np.float32)

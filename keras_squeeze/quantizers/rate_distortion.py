"""Rounding that counts the bits.

The nearest code is not the best one where the code below it costs fewer bits:
a little more error often saves a lot. Both are weighed against each other by
one factor, for all weights the same.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.kernel_geometry import (
    KernelGeometry,
    from_canonical,
    to_canonical,
)
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import layout
from keras_squeeze.quantizers.mean_squared_error import (
    MeanSquaredErrorQuantizer,
)
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.quantizer import finite_float32
from keras_squeeze.quantizers.rate_distortion_choice import (
    cheapest_codes,
    relative_importance,
)
from keras_squeeze.quantizers.rate_distortion_geometry import (
    TARGETS,
    coding_geometry,
)
from keras_squeeze.quantizers.rate_distortion_tables import (
    SCALAR,
    expected_magnitude_classes,
    first_codes,
    observed_rates,
    prior_rates,
    table_size,
)
from keras_squeeze.quantizers.scale import round_scale

#: How often rates are estimated anew from the codes of the pass before.
PASSES = 3

#: d(error) / d(bits) of a uniform quantizer at high rate, in squared steps.
EXCHANGE_RATE = np.log(2.0) / 6.0

_LARGEST_STORED_CODE = 32767


class RateDistortionQuantizer(MeanSquaredErrorQuantizer):
    """Uniform quantizer that chooses codes by their error and their bits.

    Costs `error**2 + multiplier * bits` are least, where the bits are what an
    entropy coder needs that knows the mean magnitude of each output channel
    and input. They are estimated from the codes themselves, anew in each of
    three passes.

    Args:
        bits: Integer from 2 to 8, or 16. Width of a code; the step is chosen
            for it as `MeanSquaredErrorQuantizer` does. Defaults to `8`.
        granularity: String. `"per_tensor"` or `"per_channel"`. Defaults to
            `"per_tensor"`: one step for all weights is what costs the fewest
            bits at a given squared error.
        step: Optional float. The scale, instead of the one `bits` gives; codes
            are then as wide as they get, up to 16 bits. Per tensor only.
            Defaults to `None`.
        rate_weight: Float. What bits weigh, in units of the exchange rate of
            a fine uniform grid; 0 rounds to the nearest. Defaults to `1.0`.
        target: String. The coder the codes are meant for: `"fast"`, which
            prefers the scan along the last axis, or `"small"`, which takes
            the scan that meets the more similar weights. Defaults to
            `"fast"`.

    Raises:
        SqueezeError: If an argument is out of its range.

    Example:
    >>> weights = np.array([[0.0, 0.56, -0.56, 0.1, 0.2, -0.1]], "float32")
    >>> quantizer = RateDistortionQuantizer(step=1.0)
    >>> quantizer.encode(weights).codes.tolist()
    [[0, 0, 0, 0, 0, 0]]

    References:
        - Sullivan, 1996, Efficient scalar quantization of exponential and
          Laplacian random variables.
    """

    id: ClassVar[str] = "rate_distortion"

    def __init__(
        self,
        bits: int = 8,
        granularity: str = "per_tensor",
        step: float | None = None,
        rate_weight: float = 1.0,
        target: str = "fast",
    ) -> None:
        super().__init__(bits, granularity)
        _check_arguments(bits, granularity, step, rate_weight, target)
        self.step = step
        self.rate_weight = rate_weight
        self.target = target

    def encode(
        self,
        array: NDArray[Any],
        axis: int | tuple[int, ...] = (),
        name: str = "",
        importance: NDArray[Any] | None = None,
        kind: str | None = None,
    ) -> QuantizedTensor:
        """Quantizes an array.

        Args:
            array: Array of floats of any shape, finite in float32.
            axis: Integer or tuple. The axes that index the channels; not
                looked at with `granularity="per_tensor"`. Defaults to `()`.
            name: String. Where the array comes from, for the message of an
                error. Defaults to `""`.
            importance: Optional array of the same shape, not negative: the
                factor of each weight's squared error, as the diagonal of the
                Fisher information. Only ratios within the tensor count.
                Defaults to `None`, all equal.
            kind: Optional string, one of `codecs.kernel_geometry.KINDS`:
                which axes are channels and inputs to the coder. Defaults to
                `None`, the likeliest for the shape.

        Returns:
            `QuantizedTensor`.

        Raises:
            NonFiniteError: If a value is NaN or infinite.
            SqueezeError: If `importance` or `kind` does not fit the array.
        """
        values = finite_float32(array, name)
        weights = relative_importance(importance, values.shape, name)
        kept = layout.normalize_axis(axis, values.ndim)
        kept = () if self.granularity == "per_tensor" else kept
        canonical = layout.to_canonical(values, kept)
        scale = self._scale(canonical)
        in_steps = layout.from_canonical(
            _in_steps(canonical, scale, self._largest()), values.shape, kept
        )
        geometry = coding_geometry(values, kind, self.target, name)
        # As large as the tensor, like much of what is let go of below.
        del canonical, values
        arranged = np.ascontiguousarray(to_canonical(in_steps, geometry))
        del in_steps
        codes, trellis = self._choose_codes(
            arranged,
            None if weights is None else to_canonical(weights, geometry),
            geometry,
        )
        del arranged
        return packed_codes(
            from_canonical(codes, geometry, array.shape),
            scale,
            self.bits if self.step is None else None,
            kept,
            trellis,
        )

    def get_config(self) -> dict[str, Any]:
        """The quantizer as JSON-ready values.

        Returns:
            Dictionary with the `id` and the arguments of the constructor.
        """
        return {
            "id": self.id,
            "bits": self.bits,
            "granularity": self.granularity,
            "step": self.step,
            "rate_weight": self.rate_weight,
            "target": self.target,
        }

    def _largest(self) -> int:
        return self.largest_code if self.step is None else _LARGEST_STORED_CODE

    def _scale(self, canonical: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.step is not None:
            return rounded_step(self.step, canonical)
        counts = np.full(len(canonical), canonical.shape[1], np.int64)
        return self.choose_scale(canonical, counts).reshape(-1, 1)

    def _choose_codes(
        self,
        in_steps: NDArray[np.float32],
        importance: NDArray[np.float32] | None,
        geometry: KernelGeometry,
    ) -> tuple[NDArray[np.int32], Trellis | None]:
        multiplier = np.float32(self.rate_weight * EXCHANGE_RATE)
        if not self.rate_weight or not in_steps.size:
            return np.rint(in_steps).astype(np.int32), None
        codes = first_codes(in_steps)
        count = table_size(in_steps)
        bits = prior_rates((SCALAR,), count)
        for _ in range(PASSES):
            classes = expected_magnitude_classes(codes)
            costs = (multiplier * bits[:, 0]).astype(np.float32)
            codes = cheapest_codes(in_steps, importance, classes, costs)
            bits = observed_rates(
                np.abs(codes), None, classes, (SCALAR,), count
            )
        return codes, None


def rounded_step(
    step: float, values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The step as a scale, wide enough for codes of 16 bits.

    Args:
        step: Float above 0.
        values: float32 array, the weights.

    Returns:
        float32 array of shape `(1, 1)`.
    """
    peak = float(np.max(np.abs(values), initial=0.0))
    wide_enough = max(step, peak / (_LARGEST_STORED_CODE - 2))
    return round_scale(np.full((1, 1), wide_enough), _LARGEST_STORED_CODE)


def _in_steps(
    canonical: NDArray[np.float32], scale: NDArray[np.float32], largest: int
) -> NDArray[np.float32]:
    divisor = np.where(scale > 0, scale, np.float32(1))
    with np.errstate(over="ignore"):
        steps = np.divide(canonical, divisor)
    return np.clip(steps, -largest, largest, out=steps)


def packed_codes(
    codes: NDArray[np.int32],
    scale: NDArray[np.float32],
    bits: int | None = None,
    axis: tuple[int, ...] = (),
    trellis: Trellis | None = None,
) -> QuantizedTensor:
    """Codes in the smallest type that holds them, with their scale.

    Args:
        codes: int32 array of any shape.
        scale: float32 array of shape `(channels, 1)`.
        bits: Optional integer. Width of a code. Defaults to what the codes
            need.
        axis: Tuple of the axes that index the channels. Defaults to `()`.
        trellis: Optional `Trellis` the codes obey. Defaults to `None`.

    Returns:
        `QuantizedTensor`.
    """
    if bits is None:
        peak = int(np.max(np.abs(codes), initial=1))
        bits = max(2, peak.bit_length() + 1)
        bits = bits if bits <= 8 else 16
    dtype = np.int8 if bits <= 8 else np.int16
    return QuantizedTensor(
        codes.astype(dtype), scale, bits, axis, trellis=trellis
    )


def _check_arguments(
    bits: int,
    granularity: str,
    step: float | None,
    rate_weight: float,
    target: str,
) -> None:
    if target not in TARGETS:
        raise SqueezeError(
            f"Expected `target` to be one of {TARGETS}. Received: "
            f"target={target!r}"
        )
    if bits < 2:
        raise SqueezeError(
            f"Expected `bits` of at least 2. Received: bits={bits!r}"
        )
    if granularity == "per_group":
        raise SqueezeError(
            'Expected `granularity` "per_tensor" or "per_channel". Received: '
            f"granularity={granularity!r}"
        )
    if step is not None and not (
        0 < step < np.inf and granularity == "per_tensor"
    ):
        raise SqueezeError(
            "Expected a positive, finite `step`, and only one for a tensor. "
            f"Received: step={step!r}, granularity={granularity!r}"
        )
    if not 0 <= rate_weight < np.inf:
        raise SqueezeError(
            "Expected `rate_weight` to be finite and not negative. Received: "
            f"rate_weight={rate_weight!r}"
        )

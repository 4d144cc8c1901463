"""Eight-bit floats with a scale."""

from __future__ import annotations

from typing import ClassVar

from keras_squeeze.quantizers.fixed_codebook_quantizer import (
    FixedCodebookQuantizer,
)


class Float8E4M3Quantizer(FixedCodebookQuantizer):
    """Quantizer to 8-bit floats with 4 bits of exponent and 3 of fraction.

    The largest weight of a block becomes 448, the largest number of the
    format; there is no infinity and no NaN among the codes. Each weight keeps
    about four significant bits, small ones too: better than 8-bit integers
    where magnitudes within a block differ by orders, worse elsewhere.

    Args:
        bits: Integer, `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.

    Example:
    >>> import numpy as np
    >>> weights = np.array([448.0, 27.5, -0.3, 0.0], "float32")
    >>> Float8E4M3Quantizer().encode(weights).dequantize()
    array([ 4.480e+02,  2.800e+01, -3.125e-01,  0.000e+00], dtype=float32)

    References:
        - Micikevicius et al., 2022, FP8 formats for deep learning:
          https://arxiv.org/abs/2209.05433
    """

    id: ClassVar[str] = "float8_e4m3"
    supported_bits: ClassVar[tuple[int, ...]] = (8,)


class Float8E5M2Quantizer(FixedCodebookQuantizer):
    """Quantizer to 8-bit floats with 5 bits of exponent and 2 of fraction.

    As `Float8E4M3Quantizer` with a wider range and one significant bit less;
    its largest number is 57344.

    Args:
        bits: Integer, `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.

    Example:
    >>> import numpy as np
    >>> weights = np.array([57344.0, 27.0, -0.3, 0.0], "float32")
    >>> Float8E5M2Quantizer().encode(weights).dequantize()
    array([ 5.7344e+04,  2.8000e+01, -3.1250e-01,  0.0000e+00], dtype=float32)

    References:
        - Micikevicius et al., 2022, FP8 formats for deep learning:
          https://arxiv.org/abs/2209.05433
    """

    id: ClassVar[str] = "float8_e5m2"
    supported_bits: ClassVar[tuple[int, ...]] = (8,)

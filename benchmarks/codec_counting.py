"""Ideal code length of `context_mixing`, by what each bit was spent on.

The kernel is built once more with a counter for every probability that a bit
was coded with; `-log2` of it is what the bit had to cost.
"""

from __future__ import annotations

import ctypes

import codec_variants
import numpy as np

from keras_squeeze import codecs, native

#: What a bit may be spent on. Significance: is the weight zero?
PURPOSES = ("significance", "sign", "magnitude")

_BINS = 1 << 16
# Decoding runs once over each block, encoding tries several models.
_COUNTERS = """
static int64_t ks_counts[3][2][65536], ks_raw_bits[3];
static int ks_purpose;
int64_t *ks_counted(void) { return &ks_counts[0][0][0]; }
int64_t *ks_counted_raw(void) { return ks_raw_bits; }
"""
_SCAN = "context_mixing_scan.h"
_PATCHES: tuple[codec_variants.Patch, ...] = (
    *codec_variants.PORTABLE,
    (
        "context_mixing.h",
        "/* -- the binary range coder",
        f"{_COUNTERS}/* -- the binary range coder",
    ),
    (
        "context_mixing.h",
        "  if (decoding) bit = coder->code < bound;",
        "  if (decoding) bit = coder->code < bound;\n"
        "  ks_counts[ks_purpose][bit][p]++;",
    ),
    (
        "context_mixing.h",
        "  uint32_t high = 0;",
        "  ks_raw_bits[ks_purpose] += count;\n  uint32_t high = 0;",
    ),
    (
        _SCAN,
        "  return w->odd && node < 12 ? node",
        "  ks_purpose = node == 0 || node == 5 ? 0 : 2;\n"
        "  return w->odd && node < 12 ? node",
    ),
    (
        _SCAN,
        "  uint32_t *half = s->half_slots",
        "  ks_purpose = 2;\n  uint32_t *half = s->half_slots",
    ),
    (
        _SCAN,
        "  if (w->sign_mode == 0)",
        "  ks_purpose = 1;\n  if (w->sign_mode == 0)",
    ),
)


def spent_bits(
    arrays: list[np.ndarray], coded: list[bytes]
) -> dict[str, float]:
    """Decodes, and adds up what every bit had to cost.

    Args:
        arrays: List of integer arrays.
        coded: List of their encodings by `context_mixing`.

    Returns:
        Dictionary of bits by purpose.
    """
    codec = codecs.get("context_mixing")
    with codec_variants.variant(_PATCHES):
        counts, raw = _counters()
        counts[:] = raw[:] = 0
        for array, data in zip(arrays, coded, strict=True):
            back = codec.decode(data, array.shape, array.dtype)
            np.testing.assert_array_equal(array, back)
        share = np.arange(1, _BINS) / _BINS
        ones = counts[:, 1, 1:] @ -np.log2(share)
        zeros = counts[:, 0, 1:] @ -np.log2(1 - share)
        bits = ones + zeros + raw
    return dict(zip(PURPOSES, bits.tolist(), strict=True))


def _counters() -> tuple[np.ndarray, np.ndarray]:
    """The kernel's counters, as arrays that share its memory."""
    found = []
    shapes = {"ks_counted": (len(PURPOSES), 2, _BINS)}
    shapes["ks_counted_raw"] = (len(PURPOSES),)
    for name, shape in shapes.items():
        get = native.function(name, ctypes.POINTER(ctypes.c_int64), ())
        if get is None:
            raise RuntimeError("expected a compiler to build the kernels with")
        found.append(np.ctypeslib.as_array(get(), shape))
    return found[0], found[1]

"""What `context_mixing` writes beyond the ideal code length of its model.

The ideal is the sum of `-log2 p` over all bits, at the probabilities they were
coded with. More than that are each tensor's header and what the range coder
rounds and flushes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from codec_counting import spent_bits
from codec_sets import quantize

from keras_squeeze import codecs


def print_table(
    models: dict[str, dict[str, np.ndarray]], cases: Sequence[str]
) -> None:
    """Ideal and written bytes of every set and case."""
    codec = codecs.get("context_mixing")
    print("| set | case | tensors | ideal, bytes | written | more | a tensor |")
    print("|---|---|---|---|---|---|---|")
    for model, kernels in models.items():
        for case in cases:
            arrays = [quantize(n, w, case) for n, w in kernels.items()]
            coded = [codec.encode(array) for array in arrays]
            ideal = sum(spent_bits(arrays, coded).values()) / 8
            written = sum(len(data) for data in coded)
            more = written - ideal
            print(
                f"| {model} | {case} | {len(arrays)} | {ideal:,.0f} "
                f"| {written:,} | {more / ideal:+.2%} "
                f"| {more / len(arrays):.1f} bytes |"
            )

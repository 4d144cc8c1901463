"""Draws where the bits of `context_mixing` go, from measurement.

    python benchmarks/codec_bits.py MODEL.h5 docs/images/codec_bits.svg

A weight costs bits to say whether it is zero (significance), whether it is
negative (sign), and how large it is (magnitude). The line marks the order-0
entropy of each tensor, which a perfect coder without contexts would reach.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
from codec_counting import spent_bits
from codec_sets import load_kernels, quantize
from svg_bars import stacked_bars

from keras_squeeze import codecs

_LABELS = {
    "i8c": "8 bits a channel",
    "i4c": "4 bits a channel",
    "qp-24": "step 1/64",
    "qp-20": "step 1/32",
    "p80i8": "80 % pruned, 8 bits",
    "p80k5": "80 % pruned, 5 bits",
}


def order_0_bits(codes: np.ndarray) -> float:
    """The entropy of a tensor's values, in bits for all of them."""
    counts = np.unique(codes, return_counts=True)[1]
    return float(-(counts * np.log2(counts / codes.size)).sum())


def measure(
    kernels: dict[str, np.ndarray], case: str
) -> tuple[dict[str, float], float]:
    """Bits a weight by purpose, and the order-0 entropy."""
    codec = codecs.get("context_mixing")
    arrays = [quantize(n, w, case) for n, w in kernels.items()]
    spent = spent_bits(arrays, [codec.encode(array) for array in arrays])
    weights = sum(array.size for array in arrays)
    entropy = sum(order_0_bits(array) for array in arrays)
    parts = {purpose: bits / weights for purpose, bits in spent.items()}
    return parts, entropy / weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("picture", type=pathlib.Path)
    args = parser.parse_args()
    kernels = load_kernels(args.model)
    bars, marks = {}, {}
    print("| case | significance | sign | magnitude | all | order 0 |")
    print("|---|---|---|---|---|---|")
    for case, label in _LABELS.items():
        bars[label], marks[label] = measure(kernels, case)
        parts = [*bars[label].values()]
        cells = (*parts, sum(parts), marks[label])
        print(f"| {label} | {' | '.join(f'{c:.3f}' for c in cells)} |")
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    args.picture.write_text(
        stacked_bars(
            bars,
            f"Where the bits go: {args.model.stem}",
            "bits a weight",
            marks,
            "order-0 entropy",
        )
    )


if __name__ == "__main__":
    main()

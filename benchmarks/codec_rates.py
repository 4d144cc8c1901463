"""Bytes on identical integers: our coders and the peers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from codec_peers import PEERS, run_peer
from codec_sets import CASES, quantize

from keras_squeeze import codecs

OURS = ("rans", "class_rans", "context_mixing")
REFERENCE = "nncodec"
#: NNCodec with the one order of axes it would take by itself.
ONE_ORDER = "nncodec, one order"


@dataclasses.dataclass(frozen=True)
class SetSizes:
    """What every coder needs for one set in one case.

    Args:
        model: String. The model's name.
        case: String, one of `codec_sets.CASES`.
        weights: Integer. How many integers were coded.
        total: Dictionary of bytes by coder.
    """

    model: str
    case: str
    weights: int
    total: dict[str, int]

    def excess(self, coder: str, reference: str = REFERENCE) -> float:
        """Percent of bytes more than the reference."""
        return 100 * (self.total[coder] / self.total[reference] - 1)


def coded_bytes(name: str, array: np.ndarray) -> int:
    """Bytes of one tensor; the round trip is checked.

    Tensors the codec does not take count with the smallest codec's bytes.
    """
    codec = codecs.get(name)
    if codec.supports(array):
        data = codec.encode(array)
    else:
        codec, data = codecs.encode_smallest(array)
    back = codec.decode(data, array.shape, array.dtype)
    np.testing.assert_array_equal(array, back)
    return len(data)


def measure(
    models: dict[str, dict[str, np.ndarray]],
    cases: Iterable[str] = CASES,
    peer_python: str | None = None,
) -> list[SetSizes]:
    """Codes all kernels of all models in all cases.

    Args:
        models: Dictionary of dictionaries of float kernels.
        cases: Iterable of strings.
        peer_python: The interpreter of the peers' environment; without one
            only our coders are measured.

    Returns:
        List of `SetSizes`.
    """
    found = []
    for model, kernels in models.items():
        for case in cases:
            arrays = {
                name: quantize(name, weights, case)
                for name, weights in kernels.items()
            }
            total = {
                coder: sum(coded_bytes(coder, a) for a in arrays.values())
                for coder in OURS
            }
            if peer_python:
                sizes = run_peer(peer_python, "sizes", arrays)
                total |= {peer: sum(sizes[peer]["bytes"]) for peer in PEERS}
                total[ONE_ORDER] = sum(sizes[REFERENCE]["bytes_one_view"])
            weights = sum(array.size for array in arrays.values())
            found.append(SetSizes(model, case, weights, total))
    return found


def print_bits(found: list[SetSizes]) -> None:
    """The table of bits a weight."""
    coders = list(found[0].total)
    print(f"| set | case |{'|'.join(coders)}|")
    print("|---|---|" + "---|" * len(coders))
    for sizes in found:
        bits = (8 * sizes.total[coder] / sizes.weights for coder in coders)
        row = "|".join(f"{value:.3f}" for value in bits)
        print(f"| {sizes.model} | {sizes.case} |{row}|")


def print_excess(found: list[SetSizes], reference: str) -> None:
    """The table of percents against a coder: mean, and the worst set."""
    coders = [coder for coder in found[0].total if coder != reference]
    print(f"| over {reference} |{'|'.join(coders)}|")
    print("|---|" + "---|" * len(coders))
    for case in dict.fromkeys(sizes.case for sizes in found):
        cells = []
        for coder in coders:
            worst, model, mean = _summary(found, case, coder, reference)
            cells.append(f"{mean:+.1f} ({worst:+.1f} {model})")
        print(f"| {case} |{'|'.join(cells)}|")


def _summary(
    found: list[SetSizes], case: str, coder: str, reference: str
) -> tuple[float, str, float]:
    of_case = [sizes for sizes in found if sizes.case == case]
    ratios = [1 + sizes.excess(coder, reference) / 100 for sizes in of_case]
    mean = 100 * (float(np.exp(np.mean(np.log(ratios)))) - 1)
    worst = max(of_case, key=lambda s: s.excess(coder, reference))
    return worst.excess(coder, reference), worst.model, mean


def print_losses(found: list[SetSizes]) -> None:
    """Every set and case where ours is above a bound it promises."""
    bounds = {
        "context_mixing": ("nncodec",),
        "class_rans": ("constriction", "pcodec", "zstd-19", "rans"),
    }
    for sizes in found:
        for ours, peers in bounds.items():
            for peer in set(peers) & set(sizes.total):
                excess = sizes.excess(ours, peer)
                if excess > 0:
                    print(
                        f"{ours} above {peer}: {sizes.model} {sizes.case} "
                        f"{excess:+.2f} %"
                    )

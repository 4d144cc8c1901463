"""Integer test sets of the coder's benchmarks: kernels of trained models.

Every kernel (rank 2 and more) of an .h5 file of Keras 2 or 3 is rounded in
several ways, the *cases*, and kept in the layout Keras stores it in:

- `i8t`, `i8c`, `i4c`: 8 bits a tensor, 8 and 4 bits a channel, the scale being
  the largest magnitude;
- `p80i8`: 80 % of the tensor pruned by magnitude, then `i8t`;
- `p80k5`: pruned alike, the others clustered to 31 values by k-means; the code
  is the rank of the value, counted from zero;
- `p80s5`: pruned alike, then 31 uniform steps a tensor;
- `qp-32`, `qp-24`, `qp-20`: uniform steps of 2**-8, 2**-6 and 2**-5.

    python benchmarks/codec_sets.py FOLDER model.h5 ...

writes `FOLDER/<model>.<case>.npz`, and `<model>.float.npz` with the weights.
"""

from __future__ import annotations

import argparse
import pathlib
import re
from collections.abc import Iterator

import h5py
import numpy as np

CASES = (
    *("i8t", "i8c", "i4c", "p80i8", "p80k5", "p80s5"),
    *("qp-32", "qp-24", "qp-20"),
)
_STEPS = {"qp-32": 2.0**-8, "qp-24": 2.0**-6, "qp-20": 2.0**-5}
_PRUNED = 0.8
_CLUSTERS = 31
_KMEANS_ROUNDS = 30
# Attention keeps its biases by head, in two axes.
_SKIPPED = r"optimizer|bias"


def load_kernels(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The float kernels of an .h5 file by name, in the order of the file.

    Args:
        path: Path of a whole model or of weights alone.

    Returns:
        Dictionary of float32 arrays of rank 2 and more.
    """
    kernels = {}
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)

        def visit(name: str, found: object) -> None:
            if not isinstance(found, h5py.Dataset) or found.ndim < 2:
                return
            if found.dtype.kind == "f" and not re.search(_SKIPPED, name):
                kernels[_short_name(name)] = found[()].astype(np.float32)

        root.visititems(visit)
    return kernels


def find_models(paths: list[pathlib.Path]) -> dict[str, dict[str, np.ndarray]]:
    """The kernels of all .h5 files named or in the folders named."""
    files = []
    for path in paths:
        files += sorted(path.glob("*.h5")) if path.is_dir() else [path]
    return {path.stem: load_kernels(path) for path in files}


def _short_name(name: str) -> str:
    name = re.sub(r":0$", "", name)
    # Keras 2 repeats the layer's name: conv2d/conv2d/kernel.
    return re.sub(r"^([^/]+)/\1/", r"\1/", name)


def channel_axis(name: str, shape: tuple[int, ...]) -> int:
    """The axis along which a kernel's scales run."""
    if "embeddings" in name:
        return 0
    return len(shape) - 2 if "depthwise" in name else len(shape) - 1


def channels_first(name: str, array: np.ndarray) -> np.ndarray:
    """Moves a kernel to `(channels, inputs, taps)`, as PyTorch lays it out."""
    if "embeddings" in name:
        return array.reshape(len(array), -1, 1)
    if re.search(r"(query|key|value)/kernel", name):
        return array.reshape(len(array), -1, 1).swapaxes(0, 1)
    if array.ndim < 3 or "attention_output" in name:
        return array.reshape(-1, array.shape[-1], 1).swapaxes(0, 1)
    taps = array.reshape(-1, *array.shape[-2:])
    return taps.transpose((1, 2, 0) if "depthwise" in name else (2, 1, 0))


def quantize(name: str, weights: np.ndarray, case: str) -> np.ndarray:
    """Rounds a kernel as a case says.

    Args:
        name: String. The kernel's name; tells the channel axis.
        weights: float32 array.
        case: String, one of `CASES`.

    Returns:
        Array of the smallest signed dtype that holds the codes.
    """
    if case in _STEPS:
        return _narrow(np.rint(weights / _STEPS[case]))
    if case == "i8t":
        return _narrow(_scaled(weights, 127))
    if case in ("i8c", "i4c"):
        axis = channel_axis(name, weights.shape)
        rest = tuple(i for i in range(weights.ndim) if i != axis)
        return _narrow(_scaled(weights, 127 if case == "i8c" else 7, rest))
    pruned = prune(weights, _PRUNED)
    if case == "p80k5":
        return _narrow(_clustered(pruned))
    return _narrow(_scaled(pruned, 127 if case == "p80i8" else 15))


def prune(weights: np.ndarray, sparsity: float) -> np.ndarray:
    """Sets the smallest magnitudes to zero."""
    limit = np.quantile(np.abs(weights), sparsity)
    return np.where(np.abs(weights) < limit, 0, weights)


def _scaled(
    weights: np.ndarray, largest: int, axes: tuple[int, ...] | None = None
) -> np.ndarray:
    scale = np.abs(weights).max(axis=axes, keepdims=True) / largest
    return np.rint(weights / np.where(scale > 0, scale, 1))


def _clustered(weights: np.ndarray) -> np.ndarray:
    """Ranks of the k-means clusters of the values that are not zero."""
    values = weights[weights != 0].astype(np.float64)
    if values.size == 0:
        return np.zeros(weights.shape)
    centres = np.linspace(values.min(), values.max(), _CLUSTERS)
    for _ in range(_KMEANS_ROUNDS):
        nearest = _nearest(values, centres)
        count = np.bincount(nearest, minlength=_CLUSTERS)
        total = np.bincount(nearest, values, _CLUSTERS)
        centres = np.where(count > 0, total / np.maximum(count, 1), centres)
        centres.sort()
    ranks = _nearest(weights, centres) - np.searchsorted(centres, 0.0)
    # Zero has a rank of its own, between the negative and the positive ones.
    return np.where(weights == 0, 0, ranks + (ranks >= 0))


def _nearest(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, values)


def _narrow(codes: np.ndarray) -> np.ndarray:
    largest = np.abs(codes).max(initial=0)
    for dtype in (np.int8, np.int16, np.int32):
        if largest <= np.iinfo(dtype).max:
            break
    return codes.astype(dtype)


def make_sets(
    models: dict[str, dict[str, np.ndarray]],
) -> Iterator[tuple[str, str, dict[str, np.ndarray]]]:
    """Yields `(model, case, arrays)`, the case `"float"` first."""
    for model, kernels in models.items():
        yield model, "float", kernels
        for case in CASES:
            yield (
                model,
                case,
                {
                    name: quantize(name, weights, case)
                    for name, weights in kernels.items()
                },
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("models", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for model, case, arrays in make_sets(find_models(args.models)):
        np.savez(args.folder / f"{model}.{case}.npz", **arrays)
        weights = sum(array.size for array in arrays.values())
        print(f"{model:<24}{case:<8}{len(arrays):>4}{weights:>10,}")


if __name__ == "__main__":
    main()

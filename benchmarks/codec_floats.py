"""Lossless floats: `float_fields` against raw bytes and the peers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from codec_peers import run_peer

from keras_squeeze import codecs

_DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}


def print_table(
    models: dict[str, dict[str, np.ndarray]], peer_python: str | None
) -> None:
    """Bytes over the raw bytes, of every model in every dtype."""
    print("| model | dtype | raw bytes | float_fields | peers |")
    print("|---|---|---|---|---|")
    for model, kernels in models.items():
        for name, dtype in _DTYPES.items():
            arrays = {n: w.astype(dtype) for n, w in kernels.items()}
            raw = sum(array.nbytes for array in arrays.values())
            ours = sum(coded_bytes(array) for array in arrays.values()) / raw
            peers = ""
            if peer_python:
                found = run_peer(peer_python, "floats", _plain(arrays))
                peers = ", ".join(
                    f"{p} {n / raw:.4f}" for p, n in found.items()
                )
            print(f"| {model} | {name} | {raw:,} | {ours:.4f} | {peers} |")


def coded_bytes(array: np.ndarray) -> int:
    """Bytes of one tensor; the round trip is checked."""
    codec = codecs.get("float_fields")
    data = codec.encode(array)
    back = codec.decode(data, array.shape, array.dtype)
    if back.tobytes() != array.tobytes():
        raise ValueError(f"expected {array.shape} to come back bit for bit")
    return len(data)


def _plain(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    # NumPy alone knows no bfloat16: the peers get its bits.
    return {
        name: array.view(np.uint16) if array.dtype.kind == "V" else array
        for name, array in arrays.items()
    }

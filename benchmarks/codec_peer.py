"""The peers of the coder's benchmarks, in an environment of their own.

    PEER_PYTHON benchmarks/codec_peer.py sizes arrays.npz
    PEER_PYTHON benchmarks/codec_peer.py distortion weights.npz
    PEER_PYTHON benchmarks/codec_peer.py speed arrays.npz
    PEER_PYTHON benchmarks/codec_peer.py floats weights.npz

`PEER_PYTHON` has nncodec, constriction, pcodec, zstandard and NumPy; nothing
of this package. The arrays are `(channels, inputs, taps)`. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
from codec_peer_nncodec import distortion, nncodec_sizes, speed


def constriction_bytes(codes: np.ndarray) -> int:
    """Order-0 ANS: a table of 12 bits a symbol, or Laplace with a scale."""
    import constriction

    model = constriction.stream.model
    codes = codes.astype(np.int32)
    low, high = int(codes.min()), int(codes.max())
    if low == high:
        return 5
    counts = np.bincount((codes - low).ravel()).astype(np.float64)
    table = model.Categorical(counts / codes.size, perfect=False)
    scale = max(float(np.abs(codes).mean()), 1e-3)
    laplace = model.QuantizedLaplace(low, high, 0.0, scale)
    sizes = []
    for kind, side, symbols in (
        (table, 4 + 1.5 * counts.size, codes.ravel() - low),
        (laplace, 8, codes.ravel()),
    ):
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(np.ascontiguousarray(symbols, np.int32), kind)
        sizes.append(4 * coder.get_compressed().size + math.ceil(side))
    return min(sizes)


def pcodec_bytes(codes: np.ndarray) -> int:
    """The smaller of levels 8 and 12."""
    from pcodec import ChunkConfig, standalone

    return min(
        len(
            standalone.simple_compress(
                codes.ravel(),
                ChunkConfig(compression_level=level, enable_8_bit=True),
            )
        )
        for level in (8, 12)
    )


def zstd_bytes(codes: np.ndarray) -> int:
    """Level 19 of the bytes, or of packed nibbles where codes fit."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=19, write_content_size=False)
    views = [codes.tobytes()]
    if codes.min() >= -8 and codes.max() <= 7:
        flat = np.resize(codes.ravel() & 15, codes.size + codes.size % 2)
        views.append((flat[::2] | flat[1::2] << 4).astype(np.uint8).tobytes())
    return min(len(compressor.compress(view)) for view in views)


def sizes(arrays: dict[str, np.ndarray]) -> dict:
    """Bytes a tensor of all peers; the better of two orders of a set."""
    result: dict = {"tensors": list(arrays)}
    wide = [array.astype(np.int32) for array in arrays.values()]
    result["nncodec"] = nncodec_sizes(wide)
    for name, measure in (
        ("constriction", constriction_bytes),
        ("pcodec", pcodec_bytes),
        ("zstd-19", zstd_bytes),
    ):
        order = [
            [measure(np.ascontiguousarray(view)) for view in views]
            for views in (
                arrays.values(),
                [a.transpose(2, 1, 0) for a in arrays.values()],
            )
        ]
        result[name] = {"bytes": min(order, key=sum)}
    return result


def float_sizes(arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """Bytes of floats, given as unsigned integers or as floats."""
    import zstandard
    from pcodec import ChunkConfig, standalone

    level = ChunkConfig(compression_level=12)
    compressor = zstandard.ZstdCompressor(level=19, write_content_size=False)
    total = {"pcodec": 0, "shuffle + zstd-19": 0}
    for array in arrays.values():
        flat = np.ascontiguousarray(array).ravel()
        shuffled = flat.view(np.uint8).reshape(flat.size, -1).T.tobytes()
        total["pcodec"] += len(standalone.simple_compress(flat, level))
        total["shuffle + zstd-19"] += len(compressor.compress(shuffled))
    return total


COMMANDS = {
    "floats": float_sizes,
    "sizes": sizes,
    "distortion": distortion,
    "speed": speed,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("path")
    args = parser.parse_args()
    with np.load(args.path) as file:
        arrays = {name: file[name] for name in file.files}
    print(json.dumps(COMMANDS[args.command](arrays)))


if __name__ == "__main__":
    main()

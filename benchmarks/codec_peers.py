"""Runs `codec_peer.py` in the peers' own environment."""

from __future__ import annotations

import json
import pathlib
import subprocess
import tempfile
from typing import Any

import numpy as np
from codec_sets import channels_first

PEERS = ("nncodec", "constriction", "pcodec", "zstd-19")

_SCRIPT = pathlib.Path(__file__).with_name("codec_peer.py")


def run_peer(python: str, command: str, arrays: dict[str, np.ndarray]) -> Any:
    """Runs one command of the peers over a set.

    Args:
        python: String. The interpreter of the peers' environment.
        command: String. `"sizes"` or `"distortion"`.
        arrays: Dictionary of arrays by name, in Keras' layout.

    Returns:
        What the command printed, parsed.
    """
    moved = {
        name: np.ascontiguousarray(channels_first(name, array))
        for name, array in arrays.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "arrays.npz"
        np.savez(path, **moved)
        done = subprocess.run(
            [python, str(_SCRIPT), command, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout)

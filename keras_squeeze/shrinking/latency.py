"""How long two models take, measured in turns."""

from __future__ import annotations

import statistics
import time
from typing import Any

import keras
import numpy as np

from keras_squeeze.shrinking.tracing import graph_of

_ROUNDS = 20


def compare_latency(
    first: Any, second: Any, batch_size: int
) -> tuple[float, float]:
    """Median time of one batch through two models that take equal inputs.

    The models run in turns, so that both meet the same load of the machine.

    Args:
        first: A built `keras.Model`.
        second: A built `keras.Model`.
        batch_size: Integer. Samples in a batch.

    Returns:
        Milliseconds of the first and of the second model.
    """
    batch = sample_batch(first, batch_size)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(_ROUNDS + 2):
        for model, measured in zip((first, second), times, strict=True):
            start = time.perf_counter()
            model.predict_on_batch(batch)
            # The first turns compile the models.
            if turn > 1:
                measured.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[0]), statistics.median(times[1])


def sample_batch(model: Any, batch_size: int, seed: int = 0) -> Any:
    """Random inputs for a model.

    Args:
        model: A built `keras.Model` that knows its inputs.
        batch_size: Integer.
        seed: Integer. Defaults to `0`.

    Returns:
        Arrays in the structure that the model takes. Axes of unknown length
        are 8 long, integers are zeros and ones.
    """
    rng = np.random.default_rng(seed)
    graph: Any = graph_of(model)

    def sample(tensor: Any) -> Any:
        shape = (batch_size, *(size or 8 for size in tensor.shape[1:]))
        if "int" in str(tensor.dtype):
            return rng.integers(0, 2, shape).astype(tensor.dtype)
        return rng.normal(size=shape).astype("float32")

    return keras.tree.map_structure(sample, graph.input)

"""Calibration data as batches that a model surely takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_squeeze.errors import NonFiniteError, SqueezeError

BATCH_SIZE = 64


def sample_batches(model: Any, data: Any) -> list[Any]:
    """Splits calibration data into batches, and tries the first one.

    The batches stay in memory: calibration goes through them several times.

    Args:
        model: A built `keras.Model`.
        data: Inputs of the model: an array, a list or dictionary of arrays
            whose first axis are the samples, or a `tf.data.Dataset` of
            batches of inputs, or of tuples whose first is the inputs.

    Returns:
        List of batches of inputs.

    Raises:
        NonFiniteError: If an input is NaN or infinite.
        SqueezeError: If there is no sample, or the model does not take them.
    """
    batches = list(_split(data))
    if not batches:
        raise SqueezeError(
            "Expected calibration data with at least one sample. "
            f"Received: {type(data).__name__} without any"
        )
    for batch in batches:
        _check_finite(batch)
    _check_shapes(model, batches[0])
    try:
        model(batches[0], training=False)
    except Exception as error:
        shapes = keras.tree.map_structure(lambda a: tuple(a.shape), batches[0])
        raise SqueezeError(
            f"Expected calibration data that {model.name!r} takes as inputs"
            f"{_wanted(model)}. Received: batches of shape {shapes} "
            f"({type(error).__name__})"
        ) from error
    return batches


def _wanted(model: Any) -> str:
    shape = getattr(model, "input_shape", None)
    return "" if shape is None else f", of shape {shape}"


def _check_shapes(model: Any, batch: Any) -> None:
    """Refuses what convolutions would take, but not as inputs they know."""
    inputs = getattr(model, "inputs", None)
    if not inputs or isinstance(batch, dict):
        return
    for tensor, array in zip(inputs, keras.tree.flatten(batch), strict=False):
        wanted, received = tuple(tensor.shape), tuple(np.shape(array))
        if len(wanted) == len(received) and any(
            w not in (None, r)
            for w, r in zip(wanted[1:], received[1:], strict=True)
        ):
            raise SqueezeError(
                f"Expected calibration data of shape {wanted} for "
                f"{model.name!r}. Received: shape {received}"
            )


def _check_finite(batch: Any) -> None:
    for array in keras.tree.flatten(batch):
        values = np.asarray(keras.ops.convert_to_numpy(array))
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise NonFiniteError(
                "Expected finite calibration data. Received: "
                f"{int(np.sum(~np.isfinite(values)))} NaN or infinite values "
                f"in a batch of shape {values.shape}"
            )


def _split(data: Any) -> Iterator[Any]:
    if hasattr(data, "element_spec"):
        for batch in data:
            yield batch[0] if isinstance(batch, tuple) else batch
        return
    leaves = keras.tree.flatten(data)
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in leaves}
    if len(lengths) > 1:
        raise SqueezeError(
            "Expected calibration arrays with equally many samples. Received: "
            f"{sorted(lengths)}"
        )
    for start in range(0, max(lengths, default=0), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        yield keras.tree.map_structure(lambda a, p=part: np.asarray(a[p]), data)

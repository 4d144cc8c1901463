"""What a model in training would weigh as a file."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_squeeze.artifact import TensorInput
from keras_squeeze.artifact.tensor_encoding import encode_tensors
from keras_squeeze.quantizers import QuantizedTensor
from keras_squeeze.saving.draft import Draft


@dataclasses.dataclass(frozen=True)
class FileMeasurement:
    """The parts of a file's size.

    Args:
        rest_bytes: Integer. The file without the codes of the kernels: the
            config, other weights, scales and the container.
        codes_bytes: Integer. The coded kernels.
    """

    rest_bytes: int
    codes_bytes: int


def measure_file(
    model: Any,
    tensors: Mapping[int, QuantizedTensor],
    profile: str = "auto",
    left_out: Iterable[Any] = (),
) -> FileMeasurement:
    """Codes the kernels, and writes a file with kernels of zeros beside them.

    Args:
        model: A built `keras.Model`.
        tensors: Mapping of the `id` of a kernel's variable to the
            `QuantizedTensor` it stands for.
        profile: String. Which codecs the file may use. Defaults to `"auto"`.
        left_out: Iterable of variables that the model has in training only,
            as the logarithms of steps. Defaults to `()`.

    Returns:
        `FileMeasurement`.
    """
    empty = {
        key: dataclasses.replace(tensor, codes=np.zeros_like(tensor.codes))
        for key, tensor in tensors.items()
    }
    empty |= {id(v): _zeros(tuple(v.shape)) for v in left_out}
    return FileMeasurement(
        _draft_bytes(model, empty, profile),
        codes_bytes(tensors.values(), profile),
    )


def rest_bytes(
    model: Any,
    shapes: Mapping[int, tuple[int, ...]],
    profile: str = "auto",
) -> int:
    """The bytes of a file whose kernels on grids are all zero.

    Args:
        model: A built `keras.Model`.
        shapes: Mapping of the `id` of a kernel's variable to its shape.
        profile: String. Which codecs the file may use. Defaults to `"auto"`.

    Returns:
        Integer.
    """
    empty = {key: _zeros(shape) for key, shape in shapes.items()}
    return _draft_bytes(model, empty, profile)


def _zeros(shape: tuple[int, ...]) -> QuantizedTensor:
    scale = np.ones((1, 1), np.float32)
    return QuantizedTensor(np.zeros(shape, np.int8), scale, bits=8)


def _draft_bytes(
    model: Any, tensors: Mapping[int, QuantizedTensor], profile: str
) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "draft.h5")
        written = Draft(model, profile, quantized=tensors).write(path)
    return int(written.file_bytes)


def codes_bytes(tensors: Any, profile: str = "auto") -> int:
    """The bytes of coded kernels without their scales.

    Args:
        tensors: Iterable of `QuantizedTensor`.
        profile: String. Which codecs may be used. Defaults to `"auto"`.

    Returns:
        Integer.
    """
    inputs = [
        TensorInput.from_values("kernel", np.ascontiguousarray(each.codes))
        for each in tensors
    ]
    return sum(len(stored) for _, stored in encode_tensors(inputs, profile))

"""A file in the making: written as often as it takes to fit."""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from collections.abc import (
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from concurrent.futures import Executor
from typing import Any

import keras
import numpy as np

from keras_squeeze import artifact
from keras_squeeze.artifact import Artifact, TensorInput
from keras_squeeze.artifact.coding import DeferredTensor
from keras_squeeze.artifact.tensor_encoding import encode_tensors
from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.quantized_kernel import Packing, QuantizedKernel
from keras_squeeze.quantizers import GramMatrix, QuantizedTensor
from keras_squeeze.saving.allocating import Target, allocate_kernels
from keras_squeeze.saving.model_config import describe_model
from keras_squeeze.surgery import describe_quantized_layers
from keras_squeeze.surgery.layer_tree import (
    Filters,
    named_variables,
    to_numpy,
    walk_layers,
)
from keras_squeeze.surgery.low_rank_structure import describe_low_rank_layers

_ATTEMPTS = 5
# Where the search for a size begins; any will do.
_FIRST_SNR_DB = 18.0


@dataclasses.dataclass
class Draft:
    """A model with the codes that its file shall hold.

    Args:
        model: A built `keras.Model`.
        profile: String. Which codecs the file uses.
        executor: Optional executor that codes tensors in parallel.
        encryption_key: Optional bytes or string. What the file is encrypted
            with.
        base: Optional `Artifact`. What the file holds changes to.
        resume: Boolean. Whether an interrupted export goes on later.
        keep: Sequence of strings. What else than the model its config holds.
        quantized: Mapping of the `id` of a variable to the `QuantizedTensor`
            that is stored for it.
    """

    model: Any
    profile: str
    executor: Executor | None = None
    encryption_key: bytes | str | None = dataclasses.field(
        default=None, repr=False
    )
    base: Artifact | None = None
    resume: bool = True
    keep: Sequence[str] = ()
    quantized: Mapping[int, QuantizedTensor] = dataclasses.field(
        default_factory=dict
    )

    def write(self, path: str, overwrite: bool = True) -> Artifact:
        """Writes the file.

        Args:
            path: String. Ends in `.h5`.
            overwrite: Boolean. Defaults to `True`.

        Returns:
            The `Artifact` as read back.
        """
        variables = named_variables(self.model)
        description = describe_model(self.model, self.keep)
        description["quantized_layers"] = describe_quantized_layers(self.model)
        low_rank = describe_low_rank_layers(self.model)
        if low_rank:
            description["low_rank_layers"] = low_rank
        return artifact.write(
            path,
            _deferred_tensors(self.model, variables, self.quantized),
            description,
            keras_version=keras.__version__,
            backend=keras.backend.backend(),
            profile=self.profile,
            overwrite=overwrite,
            executor=self.executor,
            base=self.base,
            encryption_key=self.encryption_key,
            resume=self.resume,
        )


def fit(
    draft: Draft,
    max_bytes: int,
    filters: Filters = None,
    importance: Mapping[str, np.ndarray] | None = None,
    grams: Mapping[str, np.ndarray] | None = None,
    store: Callable[[], MutableMapping[str, QuantizedTensor]] = dict,
) -> dict[str, float]:
    """Quantizes a draft so that its file has at most so many bytes.

    Args:
        draft: `Draft`; its `quantized` is set.
        max_bytes: Integer.
        filters: Optional, which kernels to quantize.
        importance: Optional mapping of kernel paths to arrays.
        grams: Optional mapping of kernel paths to Gram matrices.
        store: Callable that makes what keeps the codes of one attempt.
            Defaults to `dict`.

    Returns:
        Dictionary with the `snr_db` reached.

    Raises:
        SqueezeError: If no quantization makes the file so small.
    """
    target, rest = Target(snr_db=_FIRST_SNR_DB), 0
    # Factorized once for all attempts.
    prepared = {k: GramMatrix(g, k) for k, g in (grams or {}).items()}
    # The first attempt only tells what is not kernels: weights will do.
    inputs: dict[str, GramMatrix] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(_ATTEMPTS):
            draft.quantized, allocation = allocate_kernels(
                draft.model,
                target,
                draft.profile,
                filters,
                importance,
                inputs,
                size=lambda _, tensor: _coded_bytes(tensor, draft.profile),
                store=store,
            )
            written = draft.write(os.path.join(folder, "draft.h5"))
            fits = written.file_bytes <= max_bytes
            if fits and target.max_bytes is not None:
                return {"snr_db": allocation.snr_db}
            # What is not kernels: config, other variables, the container.
            rest = max(rest, written.file_bytes - allocation.num_bytes)
            target = Target(max_bytes=_room(draft.model, max_bytes, rest))
            inputs = prepared
    raise SqueezeError(
        f"Expected a quantization that fits {max_bytes} bytes. Received: "
        f"{written.file_bytes} bytes after {_ATTEMPTS} attempts"
    )


def _room(model: Any, max_bytes: int, rest: int) -> int:
    if rest >= max_bytes:
        raise SqueezeError(
            f"Expected `max_bytes` above the {rest} bytes that {model.name!r} "
            "needs beside its kernels: config, biases, container. "
            f"Received: max_bytes={max_bytes}"
        )
    return max_bytes - rest


def _coded_bytes(tensor: QuantizedTensor, profile: str) -> int:
    item = TensorInput.from_quantized("kernel", "float32", tensor)
    return len(encode_tensors([item], profile)[0][1])


def _deferred_tensors(
    model: Any,
    variables: Mapping[str, Any],
    quantized: Mapping[int, QuantizedTensor],
) -> Iterator[DeferredTensor]:
    packings = _packings(model)
    for path, variable in variables.items():
        make = functools.partial(
            _tensor_input, path, variable, quantized, packings
        )
        yield DeferredTensor(path, make)


def _tensor_input(
    path: str,
    variable: Any,
    quantized: Mapping[int, QuantizedTensor],
    packings: Mapping[int, Packing],
) -> TensorInput:
    if id(variable) in quantized:
        dtype = keras.backend.standardize_dtype(variable.dtype)
        tensor = quantized[id(variable)]
        return TensorInput.from_quantized(path, dtype, tensor)
    array = to_numpy(variable)
    if id(variable) in packings:
        packing = packings[id(variable)]
        return TensorInput.from_packed(
            path, array, packing.width, packing.count
        )
    return TensorInput.from_values(path, array)


def _packings(model: Any) -> dict[int, Packing]:
    packings: dict[int, Packing] = {}
    for _, layer in walk_layers(model):
        if isinstance(layer, QuantizedKernel):
            packings |= {id(p.variable): p for p in layer.packings}
    return packings

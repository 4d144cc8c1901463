"""Kernels of a live model to codes, by a distortion or a size asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_squeeze import quantizers
from keras_squeeze.codecs.kernel_geometry import default_kind
from keras_squeeze.errors import SqueezeError
from keras_squeeze.surgery.kernel_quantization import channel_axis
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    find_kernels,
    to_numpy,
)

if TYPE_CHECKING:
    from keras_squeeze.quantizers import (
        Allocation,
        GramMatrix,
        QuantizedTensor,
    )

#: Smaller kernels stay as they are: their step would cost what it saves.
SMALLEST_KERNEL = 64

# What encoding may cost: the more states, the fewer bits at equal distortion.
_STATES = {"fast": 8, "auto": 32, "small": 128}


@dataclasses.dataclass(frozen=True)
class Target:
    """How good or how small the kernels shall be; one of the three.

    Args:
        snr_db: Optional float. Mean signal-to-noise ratio of the weights.
        quality: Optional float from 0 to 100, `snr_db = 6 + 0.36 * quality`.
        max_bytes: Optional integer. The largest size of the file.
    """

    snr_db: float | None = None
    quality: float | None = None
    max_bytes: int | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in dataclasses.astuple(self))

    def require_alone(self, **others: Any) -> None:
        """Raises `SqueezeError` unless exactly one way to quantize is given.

        Args:
            **others: Further arguments that exclude the target.
        """
        given = {**dataclasses.asdict(self), **others}
        given = {k: v for k, v in given.items() if v is not None}
        if len(given) > 1:
            raise SqueezeError(
                "Expected at most one of `bits` or `quantizer`, `snr_db`, "
                f"`quality` and `max_bytes`. Received: {given}"
            )


def allocate_kernels(
    model: Any,
    target: Target,
    profile: str,
    filters: Filters = None,
    importance: Mapping[str, np.ndarray] | None = None,
    grams: Mapping[str, np.ndarray | GramMatrix] | None = None,
    size: Callable[[str, QuantizedTensor], int] | None = None,
    store: Callable[[], MutableMapping[str, QuantizedTensor]] = dict,
) -> tuple[Mapping[int, QuantizedTensor], Allocation]:
    """Quantizes copies of a model's kernels, a step a tensor.

    Args:
        model: A built `keras.Model`.
        target: `Target`.
        profile: String. Which codecs will code them.
        filters: Optional regex on the kernel's path or callable
            `layer -> bool`. Defaults to all kernels.
        importance: Optional mapping of kernel paths to arrays of their
            shapes: how much an error of each weight matters.
        grams: Optional mapping of kernel paths to Gram matrices of their
            layers' inputs.
        size: Optional callable from path and tensor to its coded bytes.
        store: Callable that makes what keeps the codes of one attempt.
            Defaults to `dict`.

    Returns:
        Pair of the mapping of the `id` of a kernel's variable to its
        `QuantizedTensor`, and the `Allocation`.

    Raises:
        NoKernelMatchedError: If `filters` leaves no kernel.
        NonFiniteError: If a kernel holds NaN or infinity.
        SqueezeError: If the target cannot be met.
    """
    kernels = {
        kernel.path: kernel
        for kernel in find_kernels(model, filters)
        if int(np.prod(kernel.variable.shape)) >= SMALLEST_KERNEL
    }
    if not kernels:
        raise SqueezeError(
            f"Expected kernels of at least {SMALLEST_KERNEL} weights. "
            f"Received: none in the model {model.name!r}"
        )
    allocation = quantizers.allocate(
        _Values(kernels),
        **dataclasses.asdict(target),
        states=_STATES[profile],
        target="fast" if profile == "fast" else "small",
        kinds=_kinds(kernels),
        importance=_for_all(importance, kernels),
        grams={k: v for k, v in (grams or {}).items() if k in kernels},
        size=size,
        store=store,
    )
    paths = {id(kernel.variable): path for path, kernel in kernels.items()}
    return _ByVariable(paths, allocation.tensors), allocation


class _Values(Mapping[str, np.ndarray]):
    """The values of kernels by their paths, copied when asked for."""

    def __init__(self, kernels: Mapping[str, Kernel]) -> None:
        self._kernels = kernels

    def __getitem__(self, path: str) -> np.ndarray:
        return to_numpy(self._kernels[path].variable)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kernels)

    def __len__(self) -> int:
        return len(self._kernels)


class _ByVariable(Mapping[int, "QuantizedTensor"]):
    """Quantized tensors by the `id` of the variables they stand for."""

    def __init__(
        self, paths: Mapping[int, str], tensors: Mapping[str, QuantizedTensor]
    ) -> None:
        self._paths, self._tensors = paths, tensors

    def __getitem__(self, variable_id: int) -> QuantizedTensor:
        return self._tensors[self._paths[variable_id]]

    def __contains__(self, variable_id: object) -> bool:
        return variable_id in self._paths

    def __iter__(self) -> Iterator[int]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def _kinds(kernels: Mapping[str, Kernel]) -> dict[str, str]:
    kinds = {path: kernel_kind(kernel) for path, kernel in kernels.items()}
    return {path: kind for path, kind in kinds.items() if kind is not None}


def kernel_kind(kernel: Kernel) -> str | None:
    """The geometry in which a kernel's channels share a scale.

    Args:
        kernel: `Kernel`.

    Returns:
        String, one of `codecs.kernel_geometry.KINDS`, or `None` for matrices,
        whose weights tell which of their axes resemble each other.
    """
    shape = tuple(kernel.variable.shape)
    name = type(kernel.layer).__name__
    if len(shape) < 3:
        return None
    if kernel.attribute == "depthwise_kernel" or "Transpose" in name:
        return "convolution_transposed"
    if "Conv" in name:
        return default_kind(shape)
    # Projections: features in, heads out, or heads in and features out.
    first = channel_axis(kernel) == tuple(range(1, len(shape)))
    return "matrix_first_axis" if first else "matrix"


def _for_all(
    importance: Mapping[str, np.ndarray] | None, kernels: Mapping[str, Kernel]
) -> dict[str, np.ndarray] | None:
    if importance is None:
        return None
    missing = sorted(set(kernels) - set(importance))
    if missing:
        raise SqueezeError(
            "Expected `importance` for every kernel to quantize. Received: "
            f"none for {missing[:5]}; paths are those of the report"
        )
    return {path: np.asarray(importance[path]) for path in kernels}

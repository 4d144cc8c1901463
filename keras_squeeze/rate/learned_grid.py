"""The uniform grid on which a kernel is trained."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from keras_squeeze.errors import NoKernelMatchedError, SqueezeError
from keras_squeeze.layers.quantization_aware import QuantizationAware
from keras_squeeze.layers.quantization_aware_kernel import (
    TrainedKernel,
    as_float32,
)
from keras_squeeze.layers.stored_kernel import StoredKernel
from keras_squeeze.quantizers import QuantizedTensor
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    find_kernels,
    to_numpy,
)

#: The first step as a share of the kernel's standard deviation: coarse enough
#: for zeros to be seen, fine enough to lose little.
FIRST_STEP = 0.5


@dataclasses.dataclass(frozen=True)
class LearnedGrid:
    """A kernel in training, and the steps that are learned with it.

    Args:
        path: String. The kernel's path.
        layer: The layer that owns it.
        trained: `TrainedKernel` with a uniform symmetric grid.
    """

    path: str
    layer: Any
    trained: TrainedKernel

    @property
    def variable(self) -> Any:
        """The variable that holds the float kernel."""
        return self.trained.variable

    @property
    def size(self) -> int:
        """The number of weights."""
        return math.prod(self.trained.layout.shape)

    def to_levels(self, kernel: Any) -> Any:
        """Divides a kernel by its steps.

        Args:
            kernel: Float tensor of the kernel's shape.

        Returns:
            float32 tensor of that shape; gradients reach the kernel and the
            steps.
        """
        layout = self.trained.layout
        steps = {layout.variable_name("scale"): self.trained.step()}
        weights = keras.ops.cast(kernel, "float32")
        return weights / StoredKernel(layout, steps).scale()

    def tensor(self) -> QuantizedTensor:
        """The kernel as codes on the grid it has now."""
        return self.trained.tensor()

    def coarsen(self) -> None:
        """Sets the steps to where the learning of them begins well."""
        log_step = self.trained.parts["log_step"]
        deviation = float(np.std(to_numpy(self.variable)))
        if deviation > 0:
            scale = np.asarray(as_float32(self.trained.parts["scale"]))
            log_step.assign(np.log(FIRST_STEP * deviation / scale))


def find_grids(model: Any, filters: Filters = None) -> list[LearnedGrid]:
    """The kernels that are trained on uniform grids with learned steps.

    Args:
        model: A built `keras.Model`.
        filters: Optional regex or callable, as in `find_kernels`.

    Returns:
        List of `LearnedGrid`.

    Raises:
        NoKernelMatchedError: If `filters` leaves no kernel.
        SqueezeError: If no kernel lies on such a grid.
    """
    kernels = find_kernels(model, filters)
    found = [(kernel, _trained_kernel(kernel)) for kernel in kernels]
    grids = [
        LearnedGrid(kernel.path, kernel.layer, trained)
        for kernel, trained in found
        if trained is not None
    ]
    if not grids:
        names = ", ".join(kernel.path for kernel in kernels)
        raise SqueezeError(
            "Expected kernels on symmetric uniform grids whose steps are "
            f"learned. Received: others only, {names}"
        )
    return grids


def stock_kernels(
    model: Any, filters: Filters = None
) -> dict[int, tuple[int, ...]]:
    """The kernels of layers that have not been on a grid yet.

    Args:
        model: A built `keras.Model`.
        filters: Optional regex or callable, as in `find_kernels`.

    Returns:
        Dictionary of the `id` of each variable to its shape.
    """
    try:
        kernels = find_kernels(model, filters)
    except NoKernelMatchedError:
        # All of them are quantized layers, which hold no float kernel.
        return {}
    return {
        id(kernel.variable): tuple(kernel.variable.shape)
        for kernel in kernels
        if not isinstance(kernel.layer, QuantizationAware)
    }


def _trained_kernel(kernel: Kernel) -> TrainedKernel | None:
    layer = kernel.layer
    if not isinstance(layer, QuantizationAware):
        return None
    if kernel.attribute not in layer.layouts:
        return None
    trained = layer.trained_kernel(kernel.attribute)
    is_uniform = "log_step" in trained.parts and not trained.has_codebook
    if not is_uniform or trained.quantizer.affine:
        return None
    return trained

"""What gradients say about weights, gathered inside the compiled step.

The hook is the optimizer's `update_step`, replaced on the instance: there a
gradient is unscaled, clipped, averaged over accumulated batches and summed
over replicas, and no second backward pass is needed. Keras calls it while a
step is traced, so what it adds becomes part of the compiled step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking.kernel_mask import variable_scope
from keras_squeeze.masking.method_hook import listen, unlisten
from keras_squeeze.masking.optimizer_slots import inner_optimizers
from keras_squeeze.masking.training_state import TrainingState
from keras_squeeze.surgery.layer_tree import Kernel, to_numpy

ops = keras.ops

#: What is summed up for a statistic, from a gradient and the weights.
_TERMS: dict[str, Callable[[Any, Any], Any]] = {
    "gradient": lambda g, w: g,
    "gradient_l1": lambda g, w: ops.absolute(g),
    "gradient_l2": lambda g, w: ops.square(g),
    "gradient_times_weight": lambda g, w: g * w,
}
NAMES = tuple(_TERMS)


class GradientStatistics:
    """Means over the steps since the last reset, one sum a kernel and name.

    Args:
        model: The `keras.Model` in training.
        kernels: List of `Kernel`.
        names: Names of statistics, some of `NAMES`.
        optimizer: The `keras.optimizers.Optimizer` in training.

    Raises:
        SqueezeError: If there is no optimizer, or Keras does not run on
            TensorFlow.
    """

    def __init__(
        self,
        model: Any,
        kernels: list[Kernel],
        names: Sequence[str],
        optimizer: Any,
    ) -> None:
        _check_gatherable(names, optimizer)
        self._optimizer = optimizer
        self._history = getattr(model, "history", None)
        self._listeners: list[tuple[Any, Callable[..., None]]] = []
        with variable_scope(model):
            self._sums = [GradientSums(kernel, names) for kernel in kernels]

    def set_shadows(self, shadows: dict[str, Any]) -> None:
        """Tells where pruned weights keep their values, by kernels' paths."""
        for sums in self._sums:
            sums.shadow = shadows.get(sums.kernel.path)

    def attach(self) -> None:
        """Begins to listen to the optimizers that do the updates."""
        for optimizer in inner_optimizers(self._optimizer):
            listener = self._listener(optimizer)
            listen(optimizer, "update_step", listener, self._history)
            self._listeners.append((optimizer, listener))

    def detach(self) -> None:
        """Ends it; a step traced meanwhile still adds to the sums."""
        for optimizer, listener in self._listeners:
            unlisten(optimizer, "update_step", listener)
        self._listeners = []

    def _listener(self, optimizer: Any) -> Callable[..., None]:
        def add(gradient: Any, variable: Any, learning_rate: Any) -> None:
            # Before the update: afterwards the weights are other ones.
            key = optimizer._var_key(variable)
            for sums in self._sums:
                if optimizer._var_key(sums.kernel.variable) == key:
                    # The optimizer's own way of assigning: inside its update
                    # each replica writes its own copy of a variable.
                    sums.add(optimizer.assign_add, gradient, variable)

        return add

    def missing(self) -> list[str]:
        """The kernels for which no gradient has come since the last reset."""
        return [s.kernel.path for s in self._sums if not s.count()]

    def read(self) -> list[dict[str, NDArray[Any]]]:
        """The means, a dictionary from name to float32 array a kernel."""
        return [sums.means() for sums in self._sums]

    def reset(self) -> None:
        """Begins anew."""
        for sums in self._sums:
            sums.reset()

    def register(self, state: TrainingState) -> None:
        """Makes the sums part of what is saved with the model."""
        for sums in self._sums:
            for name, variable in sums.variables.items():
                state.add_variable(f"{sums.kernel.path}:{name}", variable)


class GradientSums:
    """The sums of one kernel and the number of steps in them.

    Args:
        kernel: `Kernel`.
        names: Names of statistics, some of `NAMES`.
    """

    def __init__(self, kernel: Kernel, names: Sequence[str]) -> None:
        self.kernel = kernel
        #: `keras.Variable` of the values that pruned weights keep, or `None`.
        self.shadow: Any | None = None
        shape = tuple(kernel.variable.shape)
        self.variables = {name: _zeros(shape, name) for name in names}
        self.variables["steps"] = _zeros((), "steps")

    def add(
        self, assign_add: Callable[..., Any], gradient: Any, variable: Any
    ) -> None:
        """Adds one step.

        Args:
            assign_add: Callable taking a variable and what to add to it.
            gradient: Tensor of the kernel's shape.
            variable: The kernel's variable, or its copy on a replica.
        """
        # An embedding's gradient holds some rows only, and some twice.
        gradient = ops.convert_to_tensor(gradient, sparse=False)
        gradient = ops.cast(gradient, "float32")
        weights = ops.cast(ops.convert_to_tensor(variable), "float32")
        if self.shadow is not None:
            # One of the two is zero.
            shadow = ops.cast(ops.convert_to_tensor(self.shadow), "float32")
            weights = weights + shadow
        for name, total in self.variables.items():
            term = _TERMS[name](gradient, weights) if name in _TERMS else 1.0
            assign_add(total, term)

    def count(self) -> float:
        """The steps since the last reset."""
        return float(to_numpy(self.variables["steps"]))

    def means(self) -> dict[str, NDArray[Any]]:
        """The means by name."""
        steps = np.float32(max(1.0, self.count()))
        found = {
            name: to_numpy(total) / steps
            for name, total in self.variables.items()
            if name in _TERMS
        }
        if "gradient_l2" in found:
            found["gradient_l2"] = np.sqrt(found["gradient_l2"])
        return found

    def reset(self) -> None:
        """Begins anew."""
        for total in self.variables.values():
            total.assign(np.zeros(total.shape, np.float32))


def _zeros(shape: tuple[int, ...], name: str) -> Any:
    return keras.Variable(
        np.zeros(shape, np.float32),
        dtype="float32",
        trainable=False,
        autocast=False,
        name=name,
    )


def _check_gatherable(names: Sequence[str], optimizer: Any) -> None:
    if keras.backend.backend() != "tensorflow":
        raise SqueezeError(
            f"Expected Keras to run on TensorFlow: {', '.join(names)} are "
            "gathered inside its compiled step; criteria of the weights alone "
            "run anywhere. Received: backend="
            f"{keras.backend.backend()!r}"
        )
    if optimizer is None:
        raise SqueezeError(
            f"Expected an optimizer, whose updates {', '.join(names)} are "
            "gathered from: compile the model with one, or pass `optimizer=`. "
            "Received: optimizer=None"
        )

"""How large a layer's inputs are, gathered inside the compiled step.

A layer's `call` is listened to for the length of the training. Keras runs it
while a step is traced, so what is summed up becomes part of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking.input_axes import InputAxes, input_axes
from keras_squeeze.masking.kernel_mask import variable_scope
from keras_squeeze.masking.method_hook import listen, unlisten
from keras_squeeze.masking.training_state import TrainingState
from keras_squeeze.surgery.layer_tree import Kernel, to_numpy

ops = keras.ops

NAME = "activation"


class ActivationStatistics:
    """Root mean squares of layers' inputs, one a reduction index of a kernel.

    A shared layer counts each of its calls; evaluations do not count.

    Args:
        model: The `keras.Model` in training.
        kernels: List of `Kernel`.
        training_only: Boolean. Whether only calls in training are counted.
            Defaults to `True`.

    Raises:
        SqueezeError: If the inputs of a kernel cannot be told apart, as those
            of an Embedding.
    """

    def __init__(
        self, model: Any, kernels: list[Kernel], training_only: bool = True
    ) -> None:
        found = {kernel.path: input_axes(kernel) for kernel in kernels}
        unknown = [path for path, axes in found.items() if axes is None]
        if unknown:
            raise SqueezeError(
                "Expected kernels that multiply their layer's inputs; exclude "
                f"the others by `filters`. Received: {', '.join(unknown)}"
            )
        #: Off outside of training steps: an evaluation is traced too.
        self.recording = False
        self._training_only = training_only
        self._history = getattr(model, "history", None)
        self._listeners: list[tuple[Any, Callable[..., None]]] = []
        with variable_scope(model):
            self._sums = [
                _Squares(kernel, axes)
                for kernel, axes in zip(kernels, found.values(), strict=True)
                if axes is not None
            ]

    def attach(self) -> None:
        """Begins to listen to the layers."""
        for sums in self._sums:
            listener = self._listener(sums)
            listen(sums.kernel.layer, "call", listener, self._history)
            self._listeners.append((sums.kernel.layer, listener))

    def detach(self) -> None:
        """Ends it; a step traced meanwhile still adds to the sums."""
        for layer, listener in self._listeners:
            unlisten(layer, "call", listener)
        self._listeners = []

    def missing(self) -> list[str]:
        """The kernels whose layers were not called since the last reset."""
        return [s.kernel.path for s in self._sums if not s.count()]

    def read(self) -> list[dict[str, NDArray[Any]]]:
        """A dictionary of one array, broadcastable to the kernel, a kernel."""
        return [{NAME: sums.root_mean_squares()} for sums in self._sums]

    def reset(self) -> None:
        """Begins anew."""
        for sums in self._sums:
            sums.reset()

    def register(self, state: TrainingState) -> None:
        """Makes the sums part of what is saved with the model."""
        for sums in self._sums:
            prefix = f"{sums.kernel.path}:{NAME}"
            state.add_variable(prefix, sums.total)
            state.add_variable(f"{prefix}_calls", sums.calls)

    def _listener(self, sums: _Squares) -> Callable[..., None]:
        def add(*args: Any, **kwargs: Any) -> None:
            if self.recording and self._counts(sums.kernel.layer):
                sums.add(*args, **kwargs)

        return add

    def _counts(self, layer: Any) -> bool:
        context = layer._get_call_context()
        in_training = context.get_value("training") is not False
        return in_training or not self._training_only


class _Squares:
    """The sum of mean squares of one kernel's inputs, and its calls."""

    def __init__(self, kernel: Kernel, axes: InputAxes) -> None:
        self.kernel, self.axes = kernel, axes
        self.total = _zeros((axes.size,), f"{kernel.variable.name}_inputs")
        self.calls = _zeros((), f"{kernel.variable.name}_calls")

    def add(self, *args: Any, **kwargs: Any) -> None:
        inputs = self.axes.select(*args, **kwargs)
        squares = ops.square(ops.cast(inputs, "float32"))
        axes = self.axes.others(len(inputs.shape))
        means = ops.reshape(ops.mean(squares, axis=axes), (-1,))
        self.total.assign_add(ops.stop_gradient(means))
        self.calls.assign_add(1.0)

    def count(self) -> float:
        return float(to_numpy(self.calls))

    def root_mean_squares(self) -> NDArray[Any]:
        means = to_numpy(self.total) / np.float32(max(1.0, self.count()))
        return self.axes.arrange(np.sqrt(means))

    def reset(self) -> None:
        self.total.assign(np.zeros(self.total.shape, np.float32))
        self.calls.assign(np.float32(0))


def _zeros(shape: tuple[int, ...], name: str) -> Any:
    return keras.Variable(
        np.zeros(shape, np.float32),
        dtype="float32",
        trainable=False,
        # A layer of mixed precision would add in half precision.
        autocast=False,
        aggregation="mean",
        name=name,
    )

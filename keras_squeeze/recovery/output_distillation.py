"""The student's outputs are drawn to the teacher's."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_squeeze.errors import SqueezeError

# Probabilities below it count as it; float16 holds it.
_SMALLEST = 1e-7


@keras.saving.register_keras_serializable(package="keras_squeeze")
class OutputDistillation(keras.distillation.DistillationLoss):
    """Distance of two models' outputs, whatever these end with.

    Classifiers are compared by the Kullback-Leibler divergence of their
    probabilities at a temperature; all else by the squared error. Keras'
    `LogitsDistillation` takes logits; most Keras models end with a softmax,
    whose output is turned into logits here first.

    Args:
        temperature: Positive float. The higher, the more the classes that are
            not the most probable one count. Defaults to `2.0`.
        outputs: String. What the outputs are: `"probabilities"` (a softmax),
            `"logits"` or `"values"` (of a regression, or sigmoids). Defaults
            to `"probabilities"`.

    Raises:
        SqueezeError: If an argument is out of its range.

    Example:
    >>> loss = OutputDistillation()
    >>> teacher = ops.convert_to_tensor([[0.5, 0.5]])
    >>> float(loss.compute_loss(teacher, teacher))
    0.0

    References:
        - Hinton et al., 2015, Distilling the knowledge in a neural network:
          https://arxiv.org/abs/1503.02531
    """

    def __init__(
        self, temperature: float = 2.0, outputs: str = "probabilities"
    ) -> None:
        if not 0 < temperature < math.inf:
            raise SqueezeError(
                "Expected `temperature` to be positive and finite. "
                f"Received: temperature={temperature!r}"
            )
        if outputs not in ("probabilities", "logits", "values"):
            raise SqueezeError(
                "Expected `outputs` to be 'probabilities', 'logits' or "
                f"'values'. Received: outputs={outputs!r}"
            )
        self.temperature, self.outputs = float(temperature), outputs

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any
    ) -> Any:
        """The distance, summed over several outputs.

        Args:
            teacher_outputs: Tensor or a nest of tensors.
            student_outputs: The same of the student.
            **kwargs: Not looked at.

        Returns:
            Scalar tensor.
        """
        pairs = zip(
            keras.tree.flatten(teacher_outputs),
            keras.tree.flatten(student_outputs),
            strict=True,
        )
        return sum(self._distance(*pair) for pair in pairs)

    def _distance(self, teacher: Any, student: Any) -> Any:
        if self.outputs == "values":
            return ops.mean(ops.square(student - teacher))
        teacher, student = self._softened(teacher), self._softened(student)
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
        # Gradients fall with the square of the temperature.
        return ops.mean(divergence) * self.temperature**2

    def _softened(self, outputs: Any) -> Any:
        if self.outputs == "probabilities":
            outputs = ops.log(ops.maximum(outputs, _SMALLEST))
        return ops.log_softmax(outputs / self.temperature, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments.

        Returns:
            JSON-ready dictionary.
        """
        return {"temperature": self.temperature, "outputs": self.outputs}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OutputDistillation:
        """Makes the loss of a config."""
        return cls(**config)


def output_kind(model: Any) -> str:
    """What the outputs of a model are, judged by its last activations.

    Args:
        model: A `keras.Model`.

    Returns:
        String: `"probabilities"`, `"logits"` or `"values"`.
    """
    loss = getattr(model, "loss", None)
    if getattr(loss, "from_logits", False) is True:
        return "logits"
    outputs = keras.tree.flatten(getattr(model, "outputs", None) or [])
    layers = [tensor._keras_history.operation for tensor in outputs]
    if layers and all(_is_softmax(layer) for layer in layers):
        return "probabilities"
    if "categorical_crossentropy" in str(loss):
        return "probabilities"
    return "values"


def _is_softmax(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Softmax):
        return True
    activation = getattr(layer, "activation", None)
    return activation is keras.activations.softmax

"""Figures that a user's validation gives for a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_squeeze.errors import SqueezeError

Validate = tuple[Any, Any] | Callable[[Any], Any] | Any | None


def evaluate(model: Any, validate: Validate) -> dict[str, float]:
    """Evaluates a model on validation data, or by a callable.

    Args:
        model: A `keras.Model`, compiled unless `validate` is a callable.
        validate: A pair `(x, y)` or a `tf.data.Dataset`, for the model's
            `evaluate`, or a callable `model -> float or dict`. `None` gives
            no figures.

    Returns:
        Dictionary of name to float.

    Raises:
        SqueezeError: If the model is not compiled but has to be.
    """
    if validate is None:
        return {}
    if callable(validate):
        result = validate(model)
        if not isinstance(result, Mapping):
            result = {"validation": result}
        return {str(name): float(value) for name, value in result.items()}
    if not getattr(model, "compiled", False):
        raise SqueezeError(
            "Expected a compiled model, or a callable `validate(model)`. "
            f"Received: validate={type(validate).__name__} and the uncompiled "
            f"model {model.name!r}"
        )
    arguments = validate if isinstance(validate, tuple) else (validate,)
    results = model.evaluate(*arguments, verbose=0, return_dict=True)
    return {str(name): float(value) for name, value in results.items()}

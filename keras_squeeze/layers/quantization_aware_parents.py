"""Attention and recurrent layers that remember how their parts are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.class_change import change_class
from keras_squeeze.layers.dequantizing import stock_class
from keras_squeeze.layers.held_kernels import held_kernels
from keras_squeeze.layers.quantization_aware import QuantizationAware
from keras_squeeze.layers.quantization_aware_classes import (
    QuantizationAwareCell,
)
from keras_squeeze.layers.quantization_aware_conversion import (
    to_quantization_aware,
)
from keras_squeeze.layers.quantized_attention import projection_layers
from keras_squeeze.layers.quantizer_arguments import quantizer_arguments

_register = keras.saving.register_keras_serializable(package="keras_squeeze")


class QuantizationAwareParent(keras.layers.Layer):
    """Mixin: a layer that makes layers which are trained with rounding.

    Stands before a Keras layer in the bases. That layer makes its projections
    or its cell itself, so a plain config would bring back float ones; the
    config of this layer says which of them are trained how.

    Args:
        *args: What the Keras layer takes.
        quantization_aware: Optional mapping of a part's name (`"query"`,
            `"attention_output"`, ...; `"cell"` in a recurrent layer) to the
            arguments of `QuantizationAware`. Defaults to none.
        **kwargs: What the Keras layer takes.

    Raises:
        SqueezeError: If there is no such part.
    """

    _wanted: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def __init__(
        self,
        *args: Any,
        quantization_aware: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        # Past Keras, which would wrap the dictionaries to track them.
        self.__dict__["_wanted"] = tuple((quantization_aware or {}).items())

    def _convert_parts(self) -> None:
        layers = parts_of(self)
        for name, arguments in self._wanted:
            if name not in layers:
                raise SqueezeError(
                    f"Expected parts of {self.name!r} among {sorted(layers)}. "
                    f"Received: {name!r}"
                )
            given = dict(arguments)
            quantizer = given.pop("kernel_quantizer")
            to_quantization_aware(layers[name], quantizer, **given)

    def get_config(self) -> dict[str, Any]:
        """The Keras layer's config, and how its parts are trained.

        Returns:
            JSON-ready dictionary.
        """
        wanted = dict(self._wanted)
        if self.built:
            wanted = {
                name: {
                    **quantizer_arguments(layer.kernel_quantizer),
                    "learn_scale": layer.learn_scale,
                }
                for name, layer in parts_of(self).items()
                if isinstance(layer, QuantizationAware)
            }
        return {**super().get_config(), "quantization_aware": wanted}


class _AwareAttention(QuantizationAwareParent):
    def build(
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> None:
        """Builds the attention layer, and the grids of its projections."""
        super().build(query_shape, value_shape, key_shape)
        self._convert_parts()


class QuantizationAwareRecurrence(keras.layers.Layer):
    """Mixin: a recurrent layer that rounds its cells' kernels once a call."""

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: Any = False,
    ) -> Any:
        """What the Keras layer computes, with the rounded kernels."""
        with held_kernels(aware_cells(self.cell), sequences):
            return super().call(
                sequences,
                initial_state=initial_state,
                mask=mask,
                training=training,
            )


class _AwareOwnCell(QuantizationAwareRecurrence, QuantizationAwareParent):
    def build(
        self, sequences_shape: Any, initial_state_shape: Any = None
    ) -> None:
        """Builds the recurrent layer, and the grids of its cell."""
        super().build(sequences_shape, initial_state_shape)
        if not isinstance(self.cell, QuantizationAware):
            self._convert_parts()


def parts_of(layer: Any) -> dict[str, Any]:
    """The layers with kernels that an attention or recurrent layer makes.

    Args:
        layer: A built layer.

    Returns:
        Dictionary of name to layer.
    """
    if isinstance(layer, keras.layers.RNN):
        return {"cell": layer.cell}
    return projection_layers(layer)


def aware_cells(cell: Any) -> list[Any]:
    """The cells trained with rounding that a recurrent layer calls.

    Args:
        cell: The layer's cell, maybe several in one.

    Returns:
        List of layers.
    """
    if not isinstance(cell, keras.layers.Layer):
        return []
    inside = cell._flatten_layers(include_self=True, recursive=True)
    return [c for c in inside if isinstance(c, QuantizationAwareCell)]


@_register
class QuantizationAwareMultiHeadAttention(
    _AwareAttention, keras.layers.MultiHeadAttention
):
    """`keras.layers.MultiHeadAttention`, projections trained with rounding."""


@_register
class QuantizationAwareGroupedQueryAttention(
    _AwareAttention, keras.layers.GroupQueryAttention
):
    """`keras.layers.GroupQueryAttention`, projections trained with rounding."""


@_register
class QuantizationAwareRNN(QuantizationAwareRecurrence, keras.layers.RNN):
    """`keras.layers.RNN` that rounds its cells' kernels once a call."""


@_register
class QuantizationAwareLSTM(_AwareOwnCell, keras.layers.LSTM):
    """`keras.layers.LSTM` with a cell that is trained with rounding."""


@_register
class QuantizationAwareGRU(_AwareOwnCell, keras.layers.GRU):
    """`keras.layers.GRU` with a cell that is trained with rounding."""


@_register
class QuantizationAwareSimpleRNN(_AwareOwnCell, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` with a cell that is trained with rounding."""


@_register
class QuantizationAwareConvLSTM1D(_AwareOwnCell, keras.layers.ConvLSTM1D):
    """`keras.layers.ConvLSTM1D` with a cell that is trained with rounding."""


@_register
class QuantizationAwareConvLSTM2D(_AwareOwnCell, keras.layers.ConvLSTM2D):
    """`keras.layers.ConvLSTM2D` with a cell that is trained with rounding."""


@_register
class QuantizationAwareConvLSTM3D(_AwareOwnCell, keras.layers.ConvLSTM3D):
    """`keras.layers.ConvLSTM3D` with a cell that is trained with rounding."""


_CLASSES: dict[type, type] = {
    keras.layers.MultiHeadAttention: QuantizationAwareMultiHeadAttention,
    keras.layers.GroupQueryAttention: QuantizationAwareGroupedQueryAttention,
    keras.layers.RNN: QuantizationAwareRNN,
    keras.layers.LSTM: QuantizationAwareLSTM,
    keras.layers.GRU: QuantizationAwareGRU,
    keras.layers.SimpleRNN: QuantizationAwareSimpleRNN,
    keras.layers.ConvLSTM1D: QuantizationAwareConvLSTM1D,
    keras.layers.ConvLSTM2D: QuantizationAwareConvLSTM2D,
    keras.layers.ConvLSTM3D: QuantizationAwareConvLSTM3D,
}


def adopt_parent(layer: Any) -> None:
    """Makes a layer remember which of its parts are trained with rounding.

    A layer that remembered it and has no such part any more gets its class of
    Keras back; other layers stay as they are.

    Args:
        layer: A built Keras layer.
    """
    target = _CLASSES.get(type(layer))
    if target is not None and _has_aware_part(layer):
        change_class(layer, target)
    elif isinstance(
        layer, (QuantizationAwareParent, QuantizationAwareRecurrence)
    ) and not _has_aware_part(layer):
        layer.__dict__.pop("_wanted", None)
        change_class(layer, stock_class(layer))


def _has_aware_part(layer: Any) -> bool:
    if isinstance(layer, keras.layers.RNN):
        return bool(aware_cells(layer.cell))
    parts = parts_of(layer).values()
    return any(isinstance(part, QuantizationAware) for part in parts)

"""Recurrent layers whose cells are quantized."""

from __future__ import annotations

from typing import Any

import keras

from keras_squeeze.layers.class_change import change_class
from keras_squeeze.layers.conversion import convert_layer
from keras_squeeze.layers.held_kernels import held_kernels
from keras_squeeze.layers.quantized_recurrent_cell import QuantizedCell
from keras_squeeze.layers.quantizer_arguments import (
    layer_quantizer,
    quantizer_arguments,
)
from keras_squeeze.quantizers import Quantizer

_register = keras.saving.register_keras_serializable(package="keras_squeeze")


class QuantizedRecurrence(keras.layers.Layer):
    """Mixin: a recurrent layer that dequantizes its cells once a call.

    Stands before `keras.layers.RNN` or a subclass of it in the bases.
    """

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: Any = False,
    ) -> Any:
        """What the Keras layer computes, with the dequantized kernels."""
        with held_kernels(quantized_cells(self.cell), sequences):
            return super().call(
                sequences,
                initial_state=initial_state,
                mask=mask,
                training=training,
            )


class QuantizedOwnCell(QuantizedRecurrence):
    """Mixin: a recurrent layer that quantizes the cell it makes.

    That layer makes its cell itself, so a plain config would bring back a
    float one; the config of this layer says how it is quantized.

    Args:
        *args: What the Keras layer takes.
        kernel_quantizer: String, config or `Quantizer`. Defaults to
            `"absmax"`.
        bits: Integer from 1 to 8. Defaults to the quantizer's own, mostly `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        **kwargs: What the Keras layer takes.

    Raises:
        SqueezeError: If an argument is out of its range.
    """

    _requested: Any = None

    def __init__(
        self,
        *args: Any,
        kernel_quantizer: Any = "absmax",
        bits: int | None = None,
        granularity: str = "per_channel",
        group_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        quantizer = layer_quantizer(
            kernel_quantizer, bits, granularity, group_size
        )
        super().__init__(*args, **kwargs)
        self._requested = quantizer

    def build(
        self, sequences_shape: Any, initial_state_shape: Any = None
    ) -> None:
        """Builds the recurrent layer, then quantizes its cell."""
        super().build(sequences_shape, initial_state_shape)
        if not isinstance(self.cell, QuantizedCell):
            convert_layer(self.cell, self._requested)

    @property
    def kernel_quantizer(self) -> Quantizer:
        """The quantizer of the cell's kernels."""
        held = isinstance(self.cell, QuantizedCell)
        quantizer: Quantizer = (
            self.cell.kernel_quantizer if held else self._requested
        )
        return quantizer

    def get_config(self) -> dict[str, Any]:
        """The Keras layer's config and the quantizer of its cell.

        Returns:
            JSON-ready dictionary.
        """
        return {
            **super().get_config(),
            **quantizer_arguments(self.kernel_quantizer),
        }


def quantized_cells(cell: Any) -> list[Any]:
    """The quantized cells that a recurrent layer calls.

    Args:
        cell: The layer's cell, maybe several in one.

    Returns:
        List of layers.
    """
    if not isinstance(cell, keras.layers.Layer):
        return []
    inside = cell._flatten_layers(include_self=True, recursive=True)
    return [c for c in inside if isinstance(c, QuantizedCell) and c.built]


@_register
class QuantizedRNN(QuantizedRecurrence, keras.layers.RNN):
    """`keras.layers.RNN` that dequantizes its quantized cells once a call.

    Takes what `RNN` takes; the cells know how they are quantized.
    """


@_register
class QuantizedLSTM(QuantizedOwnCell, keras.layers.LSTM):
    """`keras.layers.LSTM` with a quantized kernel and recurrent kernel.

    Takes what `LSTM` takes, and `kernel_quantizer`, `bits`, `granularity`
    and `group_size`, as all layers of this module but `QuantizedRNN` do.

    Example:
    >>> layer = QuantizedLSTM(2, bits=4)
    >>> layer.build((None, 5, 3))
    >>> type(layer.cell).__name__, layer.get_config()["bits"]
    ('QuantizedLSTMCell', 4)
    """


@_register
class QuantizedGRU(QuantizedOwnCell, keras.layers.GRU):
    """`keras.layers.GRU` with a quantized kernel and recurrent kernel."""


@_register
class QuantizedSimpleRNN(QuantizedOwnCell, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` with both kernels quantized."""


@_register
class QuantizedConvLSTM1D(QuantizedOwnCell, keras.layers.ConvLSTM1D):
    """`keras.layers.ConvLSTM1D` with both kernels quantized."""


@_register
class QuantizedConvLSTM2D(QuantizedOwnCell, keras.layers.ConvLSTM2D):
    """`keras.layers.ConvLSTM2D` with both kernels quantized."""


@_register
class QuantizedConvLSTM3D(QuantizedOwnCell, keras.layers.ConvLSTM3D):
    """`keras.layers.ConvLSTM3D` with both kernels quantized."""


_CLASSES: dict[type, type] = {
    keras.layers.RNN: QuantizedRNN,
    keras.layers.LSTM: QuantizedLSTM,
    keras.layers.GRU: QuantizedGRU,
    keras.layers.SimpleRNN: QuantizedSimpleRNN,
    keras.layers.ConvLSTM1D: QuantizedConvLSTM1D,
    keras.layers.ConvLSTM2D: QuantizedConvLSTM2D,
    keras.layers.ConvLSTM3D: QuantizedConvLSTM3D,
}


def adopt_cells(recurrent: Any) -> bool:
    """Makes a Keras recurrent layer one that remembers its quantizer.

    Args:
        recurrent: A built recurrent layer with quantized cells.

    Returns:
        Boolean: whether its class was changed; user subclasses are left.
    """
    target = _CLASSES.get(type(recurrent))
    if target is None or not quantized_cells(recurrent.cell):
        return False
    change_class(recurrent, target)
    return True

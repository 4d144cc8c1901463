"""Attention layers whose projections are quantized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.class_change import change_class
from keras_squeeze.layers.conversion import convert_layer
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.layers.quantizer_arguments import (
    layer_quantizer,
    quantizer_arguments,
)


class QuantizedProjections(keras.layers.Layer):
    """Mixin: an attention layer that quantizes the projections it builds.

    Stands before a Keras attention layer in the bases. That layer makes its
    projections in `build`, so a plain config would bring back float ones; the
    config of this layer says which are quantized and how.

    Args:
        *args: What the Keras layer takes.
        kernel_quantizer: String, config or `Quantizer`. Defaults to
            `"absmax"`.
        bits: Integer from 1 to 8. Defaults to the quantizer's own, mostly `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        projections: Optional mapping of a projection's name (`"query"`,
            `"key"`, `"value"`, `"gate"`, `"attention_output"`) to the four
            arguments above, for those that are quantized. `None` quantizes
            all alike. Defaults to `None`.
        **kwargs: What the Keras layer takes.

    Raises:
        SqueezeError: If an argument is out of its range, or a projection
            does not exist.
    """

    def __init__(
        self,
        *args: Any,
        kernel_quantizer: Any = "absmax",
        bits: int | None = None,
        granularity: str = "per_channel",
        group_size: int | None = None,
        projections: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        quantizer = layer_quantizer(
            kernel_quantizer, bits, granularity, group_size
        )
        named = None
        if projections is not None:
            named = tuple(
                (name, layer_quantizer(**arguments))
                for name, arguments in projections.items()
            )
        super().__init__(*args, **kwargs)
        self.kernel_quantizer = quantizer
        self._requested = named

    def build(
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> None:
        """Builds the attention layer, then quantizes its projections."""
        super().build(query_shape, value_shape, key_shape)
        layers = projection_layers(self)
        requested = self._requested
        if requested is None:
            requested = tuple((name, self.kernel_quantizer) for name in layers)
        unknown = [name for name, _ in requested if name not in layers]
        if unknown:
            raise SqueezeError(
                f"Expected projections of {self.name!r} among "
                f"{sorted(layers)}. Received: {unknown}"
            )
        for name, quantizer in requested:
            convert_layer(layers[name], quantizer)

    def get_config(self) -> dict[str, Any]:
        """The Keras layer's config and the quantizers of its projections.

        Returns:
            JSON-ready dictionary.
        """
        config = {
            **super().get_config(),
            **quantizer_arguments(self.kernel_quantizer),
        }
        named = self._requested
        if self.built:
            named = tuple(
                (name, layer.kernel_quantizer)
                for name, layer in projection_layers(self).items()
                if isinstance(layer, QuantizedKernel)
            )
        if named is not None:
            config["projections"] = {
                name: quantizer_arguments(quantizer)
                for name, quantizer in named
            }
        return config


def projection_layers(attention: Any) -> dict[str, Any]:
    """The projections of a built attention layer by name.

    Args:
        attention: A `MultiHeadAttention` or `GroupedQueryAttention`.

    Returns:
        Dictionary of name to `EinsumDense` layer, quantized or not.
    """
    children = attention._flatten_layers(include_self=False, recursive=False)
    return {
        layer.name: layer
        for layer in children
        if isinstance(layer, keras.layers.EinsumDense)
    }


@keras.saving.register_keras_serializable(package="keras_squeeze")
class QuantizedMultiHeadAttention(
    QuantizedProjections, keras.layers.MultiHeadAttention
):
    """`keras.layers.MultiHeadAttention` with quantized projections.

    Takes what `MultiHeadAttention` takes, and the arguments of
    `QuantizedProjections`.

    Example:
    >>> layer = QuantizedMultiHeadAttention(2, 4, bits=4)
    >>> layer.build((None, 5, 8), (None, 5, 8))
    >>> type(layer.query_dense).__name__
    'QuantizedEinsumDense'
    """


@keras.saving.register_keras_serializable(package="keras_squeeze")
class QuantizedGroupedQueryAttention(
    QuantizedProjections, keras.layers.GroupQueryAttention
):
    """`keras.layers.GroupQueryAttention` with quantized projections.

    Takes what `GroupQueryAttention` takes, and the arguments of
    `QuantizedProjections`.
    """


_CLASSES: dict[type, type] = {
    keras.layers.MultiHeadAttention: QuantizedMultiHeadAttention,
    keras.layers.GroupQueryAttention: QuantizedGroupedQueryAttention,
}


def adopt_projections(attention: Any) -> bool:
    """Makes a Keras attention layer one that remembers its quantizers.

    Args:
        attention: A built attention layer with quantized projections.

    Returns:
        Boolean: whether its class was changed; user subclasses are left.
    """
    quantized = [
        layer
        for layer in projection_layers(attention).values()
        if isinstance(layer, QuantizedKernel)
    ]
    target = _CLASSES.get(type(attention))
    if target is None or not quantized:
        return False
    change_class(attention, target)
    attention.kernel_quantizer = quantized[0].kernel_quantizer
    attention._requested = None
    return True

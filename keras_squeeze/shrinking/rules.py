"""Which rule knows the channels of which layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from keras_squeeze.shrinking import (
    attention_rules,
    elementwise_rules,
    kernel_rules,
    normalization_rules,
    recurrent_rules,
    shape_rules,
)
from keras_squeeze.shrinking.call import Call
from keras_squeeze.shrinking.channels import Channels

Rule = Callable[[Call], list[Channels]]

_NAMES: dict[Rule, tuple[str, ...]] = {
    kernel_rules.dense: ("Dense",),
    kernel_rules.einsum_dense: ("EinsumDense",),
    kernel_rules.embedding: ("Embedding",),
    kernel_rules.convolution: ("Conv1D", "Conv2D", "Conv3D"),
    kernel_rules.transposed_convolution: (
        "Conv1DTranspose",
        "Conv2DTranspose",
        "Conv3DTranspose",
    ),
    kernel_rules.depthwise_convolution: ("DepthwiseConv1D", "DepthwiseConv2D"),
    kernel_rules.separable_convolution: ("SeparableConv1D", "SeparableConv2D"),
    normalization_rules.batch_normalization: ("BatchNormalization",),
    normalization_rules.group_normalization: ("GroupNormalization",),
    normalization_rules.layer_normalization: (
        "LayerNormalization",
        "RMSNormalization",
        "UnitNormalization",
    ),
    normalization_rules.softmax: ("Softmax",),
    normalization_rules.prelu: ("PReLU",),
    elementwise_rules.identity: (
        "ActivityRegularization",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
    ),
    elementwise_rules.dropout: ("Dropout", "AlphaDropout"),
    elementwise_rules.activation: ("Activation",),
    elementwise_rules.activation_layer: ("ReLU", "LeakyReLU", "ELU"),
    elementwise_rules.rescaling: ("Rescaling",),
    elementwise_rules.merge: (
        "Add",
        "Subtract",
        "Average",
        "Maximum",
        "Minimum",
    ),
    elementwise_rules.product: ("Multiply",),
    elementwise_rules.concatenate: ("Concatenate",),
    shape_rules.pooling: tuple(
        f"{kind}Pooling{rank}D"
        for kind in ("Max", "Average")
        for rank in (1, 2, 3)
    ),
    shape_rules.global_pooling: tuple(
        f"Global{kind}Pooling{rank}D"
        for kind in ("Max", "Average")
        for rank in (1, 2, 3)
    ),
    shape_rules.zero_padding: (
        "ZeroPadding1D",
        "ZeroPadding2D",
        "ZeroPadding3D",
    ),
    shape_rules.spatial: (
        "Cropping1D",
        "Cropping2D",
        "Cropping3D",
        "UpSampling1D",
        "UpSampling2D",
        "UpSampling3D",
    ),
    shape_rules.repeat_vector: ("RepeatVector",),
    shape_rules.flatten: ("Flatten",),
    shape_rules.reshape: ("Reshape",),
    shape_rules.permute: ("Permute",),
    recurrent_rules.recurrent: ("LSTM", "GRU", "SimpleRNN"),
    recurrent_rules.bidirectional: ("Bidirectional",),
    attention_rules.multi_head_attention: ("MultiHeadAttention",),
}
# By type, never by `isinstance`: a subclass may do something else.
RULES: dict[type, Rule] = {
    getattr(keras.layers, name): rule
    for rule, names in _NAMES.items()
    for name in names
    if hasattr(keras.layers, name)
}
RULES[CustomScaleLayer] = elementwise_rules.merge

_OPERATIONS = {
    "keras.src.ops.numpy": (
        "Absolute",
        "Add",
        "Clip",
        "Exp",
        "Expm1",
        "Log1p",
        "Maximum",
        "Minimum",
        "Multiply",
        "Negative",
        "Square",
        "Subtract",
        "Tanh",
    ),
    "keras.src.ops.nn": (
        "Celu",
        "Elu",
        "Gelu",
        "HardSigmoid",
        "HardSilu",
        "HardTanh",
        "LeakyRelu",
        "LogSigmoid",
        "Relu",
        "Relu6",
        "Selu",
        "Sigmoid",
        "Silu",
        "Softplus",
        "Softsign",
    ),
}


def apply_rule(call: Call) -> list[Channels]:
    """Finds the rule for a call and follows it.

    Args:
        call: `Call`.

    Returns:
        List of `Channels`, one for each output of the call; locked where no
        rule is known.
    """
    layer = call.layer
    kind = type(layer)
    call.trace.calls[id(layer)] += 1
    if getattr(layer, "quantization_mode", None) is not None:
        return call.give_up("it is quantized")
    if getattr(layer, "lora_enabled", False):
        return call.give_up("it has low-rank adapters")
    if kind is keras.layers.TimeDistributed:
        return _time_distributed(call)
    if kind.__name__ in _OPERATIONS.get(kind.__module__, ()):
        return elementwise_rules.elementwise_operation(call)
    if kind not in RULES:
        return call.give_up(f"no rule is known for a {kind.__name__}")
    call.trace.understood.add(id(call.owner))
    return RULES[kind](call)


def _time_distributed(call: Call) -> list[Channels]:
    """The rule of the layer inside, for tensors without the time axis."""
    inner = call.layer.layer
    if len(call.inputs) > 1 or call.inputs[0].axis == 1 - len(call.shapes[0]):
        return call.give_up("its channels lie on the axis of time")
    call.trace.understood.add(id(call.owner))
    return apply_rule(
        dataclasses.replace(
            call,
            layer=inner,
            path=f"{call.path}/{inner.name}",
            shapes=tuple(s[:1] + s[2:] for s in call.shapes),
            outputs=tuple(s[:1] + s[2:] for s in call.outputs),
            keys=(*call.keys, "layer", "config"),
        )
    )

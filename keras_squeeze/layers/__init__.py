"""Keras layers whose kernels are integer codes and scales, or factors.

Importing this module registers them with Keras, so that plain
`keras.models.load_model` knows them.
"""

# Keras first: importing it registers the package's classes, which needs every
# module below from its start.
import keras  # noqa: F401

from keras_squeeze.layers.conversion import quantize_layer
from keras_squeeze.layers.low_rank_conversion import (
    Conversion,
    change_ranks,
    convert_to_low_rank,
)
from keras_squeeze.layers.low_rank_convolution import (
    LowRankConv1D,
    LowRankConv2D,
    LowRankConv3D,
)
from keras_squeeze.layers.low_rank_dense import LowRankDense
from keras_squeeze.layers.low_rank_einsum_dense import LowRankEinsumDense
from keras_squeeze.layers.low_rank_embedding import LowRankEmbedding
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.layers.quantization_aware import QuantizationAware
from keras_squeeze.layers.quantization_aware_classes import (
    QuantizationAwareConv1D,
    QuantizationAwareConv1DTranspose,
    QuantizationAwareConv2D,
    QuantizationAwareConv2DTranspose,
    QuantizationAwareConv3D,
    QuantizationAwareConv3DTranspose,
    QuantizationAwareConvLSTMCell,
    QuantizationAwareDense,
    QuantizationAwareDepthwiseConv1D,
    QuantizationAwareDepthwiseConv2D,
    QuantizationAwareEinsumDense,
    QuantizationAwareEmbedding,
    QuantizationAwareGRUCell,
    QuantizationAwareLSTMCell,
    QuantizationAwareReversibleEmbedding,
    QuantizationAwareSeparableConv1D,
    QuantizationAwareSeparableConv2D,
    QuantizationAwareSimpleRNNCell,
)
from keras_squeeze.layers.quantization_aware_conversion import (
    freeze,
    to_quantization_aware,
    to_stock,
)
from keras_squeeze.layers.quantization_aware_parents import (
    QuantizationAwareConvLSTM1D,
    QuantizationAwareConvLSTM2D,
    QuantizationAwareConvLSTM3D,
    QuantizationAwareGroupedQueryAttention,
    QuantizationAwareGRU,
    QuantizationAwareLSTM,
    QuantizationAwareMultiHeadAttention,
    QuantizationAwareRNN,
    QuantizationAwareSimpleRNN,
)
from keras_squeeze.layers.quantized_attention import (
    QuantizedGroupedQueryAttention,
    QuantizedMultiHeadAttention,
)
from keras_squeeze.layers.quantized_convolution import (
    QuantizedConv1D,
    QuantizedConv1DTranspose,
    QuantizedConv2D,
    QuantizedConv2DTranspose,
    QuantizedConv3D,
    QuantizedConv3DTranspose,
    QuantizedDepthwiseConv1D,
    QuantizedDepthwiseConv2D,
)
from keras_squeeze.layers.quantized_dense import QuantizedDense
from keras_squeeze.layers.quantized_einsum_dense import QuantizedEinsumDense
from keras_squeeze.layers.quantized_embedding import QuantizedEmbedding
from keras_squeeze.layers.quantized_kernel import Packing, QuantizedKernel
from keras_squeeze.layers.quantized_recurrent import (
    QuantizedConvLSTM1D,
    QuantizedConvLSTM2D,
    QuantizedConvLSTM3D,
    QuantizedGRU,
    QuantizedLSTM,
    QuantizedRNN,
    QuantizedSimpleRNN,
)
from keras_squeeze.layers.quantized_recurrent_cell import (
    QuantizedConvLSTMCell,
    QuantizedGRUCell,
    QuantizedLSTMCell,
    QuantizedSimpleRNNCell,
)
from keras_squeeze.layers.quantized_reversible_embedding import (
    QuantizedReversibleEmbedding,
)
from keras_squeeze.layers.quantized_separable_convolution import (
    QuantizedSeparableConv1D,
    QuantizedSeparableConv2D,
)

__all__ = [
    "Conversion",
    "LowRankConv1D",
    "LowRankConv2D",
    "LowRankConv3D",
    "LowRankDense",
    "LowRankEinsumDense",
    "LowRankEmbedding",
    "LowRankLayer",
    "Packing",
    "QuantizationAware",
    "QuantizationAwareConv1D",
    "QuantizationAwareConv1DTranspose",
    "QuantizationAwareConv2D",
    "QuantizationAwareConv2DTranspose",
    "QuantizationAwareConv3D",
    "QuantizationAwareConv3DTranspose",
    "QuantizationAwareConvLSTM1D",
    "QuantizationAwareConvLSTM2D",
    "QuantizationAwareConvLSTM3D",
    "QuantizationAwareConvLSTMCell",
    "QuantizationAwareDense",
    "QuantizationAwareDepthwiseConv1D",
    "QuantizationAwareDepthwiseConv2D",
    "QuantizationAwareEinsumDense",
    "QuantizationAwareEmbedding",
    "QuantizationAwareGRU",
    "QuantizationAwareGRUCell",
    "QuantizationAwareGroupedQueryAttention",
    "QuantizationAwareLSTM",
    "QuantizationAwareLSTMCell",
    "QuantizationAwareMultiHeadAttention",
    "QuantizationAwareRNN",
    "QuantizationAwareReversibleEmbedding",
    "QuantizationAwareSeparableConv1D",
    "QuantizationAwareSeparableConv2D",
    "QuantizationAwareSimpleRNN",
    "QuantizationAwareSimpleRNNCell",
    "QuantizedConv1D",
    "QuantizedConv1DTranspose",
    "QuantizedConv2D",
    "QuantizedConv2DTranspose",
    "QuantizedConv3D",
    "QuantizedConv3DTranspose",
    "QuantizedConvLSTM1D",
    "QuantizedConvLSTM2D",
    "QuantizedConvLSTM3D",
    "QuantizedConvLSTMCell",
    "QuantizedDense",
    "QuantizedDepthwiseConv1D",
    "QuantizedDepthwiseConv2D",
    "QuantizedEinsumDense",
    "QuantizedEmbedding",
    "QuantizedGRU",
    "QuantizedGRUCell",
    "QuantizedGroupedQueryAttention",
    "QuantizedKernel",
    "QuantizedLSTM",
    "QuantizedLSTMCell",
    "QuantizedMultiHeadAttention",
    "QuantizedRNN",
    "QuantizedReversibleEmbedding",
    "QuantizedSeparableConv1D",
    "QuantizedSeparableConv2D",
    "QuantizedSimpleRNN",
    "QuantizedSimpleRNNCell",
    "change_ranks",
    "convert_to_low_rank",
    "freeze",
    "quantize_layer",
    "to_quantization_aware",
    "to_stock",
]

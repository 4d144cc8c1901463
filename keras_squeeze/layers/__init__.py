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
    "QuantizedConv1D",
    "QuantizedConv1DTranspose",
    "QuantizedConv2D",
    "QuantizedConv2DTranspose",
    "QuantizedConv3D",
    "QuantizedConv3DTranspose",
    "QuantizedDense",
    "QuantizedDepthwiseConv1D",
    "QuantizedDepthwiseConv2D",
    "QuantizedEinsumDense",
    "QuantizedEmbedding",
    "QuantizedGroupedQueryAttention",
    "QuantizedKernel",
    "QuantizedMultiHeadAttention",
    "change_ranks",
    "convert_to_low_rank",
    "quantize_layer",
]

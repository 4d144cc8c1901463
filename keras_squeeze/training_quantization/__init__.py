"""Quantization of the kernels of a model while it trains."""

from keras_squeeze.training_quantization.live_quantization import (
    LiveQuantization,
)

__all__ = ["LiveQuantization"]

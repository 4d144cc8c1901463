"""Callbacks that compress a model while it trains."""

from keras_squeeze.callbacks.keep_sparsity import KeepSparsity
from keras_squeeze.callbacks.learning_rate_rewinding import (
    LearningRateRewinding,
    RewoundSchedule,
)
from keras_squeeze.callbacks.low_rank_factorization import (
    LowRankFactorization,
)
from keras_squeeze.callbacks.magnitude_pruning import MagnitudePruning
from keras_squeeze.callbacks.pruning import Pruning
from keras_squeeze.callbacks.quantization_aware_training import (
    QuantizationAwareTraining,
)
from keras_squeeze.callbacks.rate_penalty import RatePenalty
from keras_squeeze.callbacks.weight_rewinding import WeightRewinding

__all__ = [
    "KeepSparsity",
    "LearningRateRewinding",
    "LowRankFactorization",
    "MagnitudePruning",
    "Pruning",
    "QuantizationAwareTraining",
    "RatePenalty",
    "RewoundSchedule",
    "WeightRewinding",
]

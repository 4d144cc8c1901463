"""What a model's layers see, and what makes up for rounding their kernels.

`ks.quantize(calibration=...)` puts the units together; each can be used by
itself, in place on a model.
"""

from keras_squeeze.calibration.activation_scaling import scale_activations
from keras_squeeze.calibration.batch_norm_folding import fold_batch_norm
from keras_squeeze.calibration.equalization import equalize
from keras_squeeze.calibration.fisher_information import fisher_information
from keras_squeeze.calibration.gram_matrices import gram_matrices
from keras_squeeze.calibration.input_statistics import (
    InputStatistics,
    input_statistics,
)
from keras_squeeze.calibration.kernel_matrix import kernel_matrix

__all__ = [
    "InputStatistics",
    "equalize",
    "fisher_information",
    "fold_batch_norm",
    "gram_matrices",
    "input_statistics",
    "kernel_matrix",
    "scale_activations",
]

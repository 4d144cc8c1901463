"""Gram matrices of the inputs of kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_squeeze.calibration.calibrated_kernels import calibrated_kernels
from keras_squeeze.calibration.input_statistics import input_statistics
from keras_squeeze.calibration.kernel_matrix import kernel_matrix
from keras_squeeze.surgery.layer_tree import Filters


def gram_matrices(
    model: Any, data: Any, filters: Filters = None
) -> dict[str, np.ndarray]:
    """Sums up what the kernels of a model are multiplied with.

    The Gram matrix of a kernel is the mean of `outer(x, x)` over all vectors
    `x` that it meets: with it, the squared error of a layer's outputs follows
    from the errors of its weights. The model is run on the data once; positions
    that Keras masks do not count.

    Args:
        model: A built `keras.Model`.
        data: Inputs of the model: an array, a list or dictionary of arrays
            whose first axis are the samples, or a `tf.data.Dataset` of
            batches of inputs, or of pairs whose first is the inputs.
        filters: Optional regex on the kernel's path or callable
            `layer -> bool`. Defaults to all kernels.

    Returns:
        Dictionary from the path of a kernel to a float64 array of shape
        `(inputs, inputs)`, where `inputs` is the product of all axes of the
        kernel but the last; or, for kernels that are not this one matrix, of
        shape `(groups, inputs, inputs)`, those of `kernel_matrix`. Embeddings
        and kernels of more than 4,608 inputs are left out.

    Raises:
        NonFiniteError: If what a layer is called with is NaN or infinite.
        SqueezeError: If there is no sample, or the model does not take it.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> found = gram_matrices(model, np.ones((8, 3), "float32"))
    >>> [gram.shape for gram in found.values()]
    [(3, 3)]
    """
    statistics = input_statistics(model, data, filters)
    kernels = {k.path: k for k in calibrated_kernels(model, filters)}
    return {
        path: found.gram[0]
        if kernel_matrix(kernels[path]).is_flat
        else found.gram
        for path, found in statistics.items()
        if found.gram is not None
    }

"""Weights that are zero stay zero while a model trains on."""

from __future__ import annotations

from keras_squeeze.callbacks.pruning import Pruning
from keras_squeeze.pruning import PresentSparsity
from keras_squeeze.surgery.layer_tree import Filters


class KeepSparsity(Pruning):
    """Trains a pruned model on without a weight growing back.

    Plain `fit` fills the zeros of a pruned kernel within one step. With this
    callback every weight that is zero when the training begins is zero at
    the end of every batch; no other weight is pruned. Kernels without zeros
    train as they would.

    Beside `QuantizationAwareTraining` a quantized model keeps both: its zeros
    and its grids. `LowRankFactorization` replaces kernels by factors, which
    have no zeros to keep.

    Args:
        filters: Optional regex, searched in the kernels' paths, or callable
            `layer -> bool`. Defaults to `None`: all kernels.
        verbose: Integer. 0: quiet, 1: a line that says the sparsity. Defaults
            to `0`.

    Example:
    ```python
    ks.pruning.apply(model, 0.8)
    model.fit(x, y, epochs=3, callbacks=[ks.callbacks.KeepSparsity()])
    ```
    """

    def __init__(self, filters: Filters = None, verbose: int = 0) -> None:
        super().__init__(
            0.0, allocation=PresentSparsity(), filters=filters, verbose=verbose
        )

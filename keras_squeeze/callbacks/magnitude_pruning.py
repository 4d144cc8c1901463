"""Magnitude pruning while a model trains, without wrapping its layers."""

from __future__ import annotations

from typing import Any

from keras_squeeze.callbacks.pruning import Pruning
from keras_squeeze.surgery.layer_tree import Filters


class MagnitudePruning(Pruning):
    """Sets a growing share of a model's weights to zero while it trains.

    Every kernel gets a boolean mask, applied by the optimizer right after
    each update inside the compiled step: at the end of every batch the pruned
    weights are exactly zero. The layers, their configs and the saved files
    stay those of the plain model. When training ends the masks are applied a
    last time and taken off; the model's own constraints are put back.

    The step is `model.optimizer.iterations`. It is saved with the model, so a
    training resumed by `BackupAndRestore` goes on with the masks it had. It
    also goes on counting in a second `fit`; compile the model anew to start
    from zero, or shift the schedule's `begin_step`. Where a custom
    `train_step` leaves the compiled optimizer aside, batches are counted.

    Masks change between batches only: under `steps_per_execution` between
    executions. Put the callback before `ModelCheckpoint` and
    `BackupAndRestore` in the list: what they save after a batch at which a
    mask changes then holds the new mask; a warning tells if it is not.
    `EarlyStopping` with `restore_best_weights` should begin after the
    schedule's end (`start_from_epoch`), or it may bring back a less sparse
    epoch. Moving averages (`use_ema=True`) are masked with the weights, also
    where `SwapEMAWeights` evaluates them. If training is interrupted, the
    masks stay in force until the next training with this callback, or until
    its `on_train_end()` is called.

    The share of zeros in the masked kernels is logged as `sparsity` at the
    end of every epoch. `Pruning` is the same callback with all that pruning
    knows: allocation, regrowth, criteria of gradients and activations.

    Args:
        schedule: When to prune how much: a `keras_squeeze.schedules` object,
            its config, a float for a constant sparsity, a callable
            `step -> float`, or a schedule of TensorFlow Model Optimization,
            whose own `frequency` then holds.
        criterion: Name, config or object that ranks the weights of a kernel.
            Defaults to `"magnitude"`.
        pattern: Name, config or object that chooses from the ranks. Defaults
            to `"unstructured"`.
        filters: Optional regex, searched in the kernels' paths, or callable
            `layer -> bool`. Defaults to `None`: the kernels of all Dense,
            convolutional, Embedding, EinsumDense and recurrent layers.
            Kernels that are not trainable are left alone.
        frequency: Integer. Steps between changes of the masks. Defaults to
            `100`.
        verbose: Integer. 0: quiet, 1: a line for each change of the sparsity.
            Defaults to `0`.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    ```python
    schedule = ks.schedules.PolynomialDecay(0.0, 0.9, 0, 2000)
    pruning = ks.callbacks.MagnitudePruning(schedule)
    model.fit(x, y, epochs=10, callbacks=[pruning])
    ```

    References:
        [Zhu and Gupta, 2017](https://arxiv.org/abs/1710.01878)
    """

    def __init__(
        self,
        schedule: Any,
        criterion: Any = "magnitude",
        pattern: Any = "unstructured",
        filters: Filters = None,
        frequency: int = 100,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            schedule,
            criterion,
            pattern,
            filters=filters,
            frequency=frequency,
            verbose=verbose,
        )

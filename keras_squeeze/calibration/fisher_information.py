"""How much a model's loss minds an error of each weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.surgery.layer_tree import Filters, Kernel, find_kernels

Objective = Callable[[Any, Any], Any]


def fisher_information(
    model: Any,
    x: Any,
    y: Any = None,
    loss: Any = None,
    filters: Filters = None,
) -> dict[str, np.ndarray]:
    """Diagonal of the empirical Fisher information of the kernels.

    For each weight the square of its loss' gradient is averaged over the
    samples: the gradient is that of one sample alone, at the true label,
    with the model in inference mode, without regularization losses. To
    second order, that much the loss minds a squared error of the weight.

    Without labels it is the Fisher information of the outputs with normal
    noise of unit variance: the squared gradients of all outputs, added up.
    They are estimated from one random combination with signs a sample (the
    same signs each time), whose expectation they are.

    Samples are taken one by one through one compiled step, as a gradient for
    each of them at once would take the memory of so many models. Some hundred
    samples are enough. The model is not changed.

    Args:
        model: A built `keras.Model`, on the TensorFlow backend.
        x: Inputs of the model: an array, a list or dictionary of arrays whose
            first axis are the samples, or a `tf.data.Dataset` of batches of
            inputs, or of pairs of inputs and labels.
        y: Optional labels, as `fit` takes them. Defaults to `None`: those of
            the dataset, if it has any.
        loss: Optional loss of a sample: a name, a `keras.losses.Loss` or a
            callable `(y_true, y_pred) -> tensor`. Defaults to `None`, the
            loss the model is compiled with.
        filters: Optional regex on the kernel's path or callable
            `layer -> bool`. Defaults to all kernels.

    Returns:
        Dictionary from the path of a kernel to a float32 array of its shape,
        not negative: the `importance` that `ks.export` takes, and the
        quantizers `"kmeans"` and `"entropy_constrained"` by kernel.

    Raises:
        NoKernelMatchedError: If `filters` leaves no kernel.
        NonFiniteError: If a gradient is NaN or infinite.
        SqueezeError: If there is no sample, labels are given without a loss,
            or the backend is not TensorFlow.

    Example:
    >>> import keras_squeeze as ks
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> x, y = np.array([[1.0, 0.0], [3.0, 0.0]]), np.zeros(2)
    >>> loss = lambda y_true, y_pred: y_pred
    >>> found = fisher_information(model, x, y, loss)
    >>> [fisher.tolist() for fisher in found.values()]
    [[[5.0], [0.0]]]

    References:
        - LeCun, Denker and Solla, 1990, Optimal brain damage.
        - Kirkpatrick et al., 2017, Overcoming catastrophic forgetting (the
          diagonal): https://arxiv.org/abs/1612.00796
    """
    if keras.backend.backend() != "tensorflow":
        raise SqueezeError(
            "Expected the TensorFlow backend for gradients of single samples. "
            f"Received: {keras.backend.backend()!r}"
        )
    kernels = find_kernels(model, filters)
    samples = _samples(x, y)
    first = next(samples, None)
    if first is None:
        raise SqueezeError(
            "Expected at least one sample. "
            f"Received: {type(x).__name__} without any"
        )
    labelled = first[1] is not None
    objective = _loss(model, loss) if labelled else _signed_sum
    signs = None if labelled else _signs_maker(model, first[0])
    step, sums = _compiled_step(model, kernels, objective)
    count = 0
    while first is not None:
        inputs, labels = first
        step(inputs, labels if signs is None else signs())
        count += 1
        first = next(samples, None)
    return {
        kernel.path: _mean(kernel.path, total.numpy(), count)
        for kernel, total in zip(kernels, sums, strict=True)
    }


def _compiled_step(
    model: Any, kernels: list[Kernel], objective: Objective
) -> tuple[Any, list[Any]]:
    """A function that adds the squares of one sample's gradients to sums."""
    import tensorflow as tf

    weights = [kernel.variable.value for kernel in kernels]
    sums = [tf.Variable(tf.zeros(w.shape, tf.float32)) for w in weights]

    def step(inputs: Any, labels: Any) -> None:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            value = objective(labels, model(inputs, training=False))
            value = tf.reduce_mean(tf.cast(value, tf.float32))
        for total, gradient in zip(
            sums, tape.gradient(value, weights), strict=True
        ):
            if gradient is not None:
                dense = tf.convert_to_tensor(gradient)
                total.assign_add(tf.square(tf.cast(dense, tf.float32)))

    return tf.function(step, reduce_retracing=True), sums


def _loss(model: Any, loss: Any) -> Objective:
    chosen = getattr(model, "loss", None) if loss is None else loss
    if chosen is None or isinstance(chosen, list | tuple | dict):
        raise SqueezeError(
            "Expected a `loss` beside labels, or a model compiled with one "
            "loss; for several outputs a callable `(y_true, y_pred)`. "
            f"Received: loss={chosen!r}"
        )
    found: Objective = keras.losses.get(chosen)
    return found


def _signed_sum(signs: Any, outputs: Any) -> Any:
    return sum(
        keras.ops.sum(sign * keras.ops.cast(output, "float32"))
        for sign, output in zip(
            keras.tree.flatten(signs), keras.tree.flatten(outputs), strict=True
        )
    )


def _signs_maker(model: Any, inputs: Any) -> Callable[[], list[Any]]:
    outputs = keras.tree.flatten(model(inputs, training=False))
    shapes = [tuple(output.shape) for output in outputs]
    generator = np.random.default_rng(0)

    def signs() -> list[Any]:
        return [
            generator.choice(np.array([-1, 1], np.float32), shape)
            for shape in shapes
        ]

    return signs


def _samples(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs of inputs and labels of one sample each, with a batch axis."""
    for inputs, labels in _batches(x, y):
        leaves = keras.tree.flatten(inputs)
        for place in range(len(leaves[0]) if leaves else 0):
            yield _rows(inputs, place), _rows(labels, place)


def _batches(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    if not hasattr(x, "element_spec"):
        _check_lengths(x, y)
        yield x, y
        return
    for batch in x:
        if isinstance(batch, tuple):
            yield batch[0], batch[1] if len(batch) > 1 else None
        else:
            yield batch, None


def _check_lengths(x: Any, y: Any) -> None:
    leaves = keras.tree.flatten(x)
    leaves += [] if y is None else keras.tree.flatten(y)
    lengths = {len(leaf) for leaf in leaves}
    if len(lengths) > 1:
        raise SqueezeError(
            "Expected equally many samples in all inputs and labels. "
            f"Received: {sorted(lengths)}"
        )


def _rows(structure: Any, place: int) -> Any:
    if structure is None:
        return None
    return keras.tree.map_structure(
        lambda leaf: np.asarray(leaf[place : place + 1]), structure
    )


def _mean(path: str, total: np.ndarray, count: int) -> np.ndarray:
    found: np.ndarray = total / np.float32(count)
    if not np.isfinite(found).all():
        raise NonFiniteError(
            f"Expected finite gradients of {path}. Received: "
            f"{int(np.sum(~np.isfinite(found)))} NaN or infinite squares"
        )
    return found

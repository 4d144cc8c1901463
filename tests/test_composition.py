"""Steps in any order: what one did, the next leaves."""

from __future__ import annotations

import itertools
import math
import os

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.errors import NoKernelMatchedError
from keras_squeeze.layers import QuantizedKernel
from keras_squeeze.surgery.layer_tree import find_kernels, walk_layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 12)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
BITS, SPARSITY, RANK = 4, 0.5, 4


def model():
    """Kernels of low rank, so that factors of rank 4 lose nothing."""
    keras.utils.set_random_seed(0)
    made = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(32, activation="relu", name="first"),
            keras.layers.Dense(32, activation="relu", name="second"),
            keras.layers.Dense(2, activation="softmax", name="top"),
        ]
    )
    compile_(made)
    return made


def compile_(made) -> None:
    made.compile(
        keras.optimizers.SGD(0.05),
        "sparse_categorical_crossentropy",
        run_eagerly=True,
    )


def fit(made, *callbacks) -> None:
    made.fit(X, Y, batch_size=32, verbose=0, callbacks=list(callbacks))


def on_grids(made) -> list:
    """What a model with quantized kernels needs to train these."""
    quantized = [x for _, x in walk_layers(made) if is_quantized(x)]
    if not quantized:
        return []
    # Layers that are quantized keep their grids, the others stay float.
    return [
        ks.callbacks.QuantizationAwareTraining(
            bits=BITS, filters=lambda layer: layer in quantized
        )
    ]


def is_quantized(layer) -> bool:
    return isinstance(layer, QuantizedKernel)


def prune(made):
    """Half of the weights of every kernel; zeros there are kept."""
    callbacks = [*on_grids(made), ks.callbacks.MagnitudePruning(SPARSITY)]
    fit(made, *callbacks)
    return made


def factorize(made):
    """Low rank for two kernels; codes are left as they are."""
    if levels(made):
        with pytest.raises(NoKernelMatchedError, match="codes are kept"):
            ks.factorize(made, rank=RANK)
        return made
    small, _ = ks.factorize(made, rank=RANK, filters="first|second")
    return small


def quantize(made):
    small, _ = ks.quantize(made, bits=BITS)
    return small


def fine_tune(made):
    fit(made, *on_grids(made), ks.callbacks.KeepSparsity())
    return made


STEPS = {
    step.__name__: step for step in (prune, factorize, quantize, fine_tune)
}


def kernels(made) -> dict[str, np.ndarray]:
    """Kernels by path, as they are multiplied with."""
    found = {}
    for path, layer in walk_layers(made):
        if is_quantized(layer):
            found[f"{path}/kernel"] = layer.quantized_kernel().dequantize()
    if len(found) < len([x for x in made.layers if hasattr(x, "kernel")]):
        floats = find_kernels(made)
        found |= {k.path: np.asarray(k.variable) for k in floats}
    return found


def nonzero(made) -> int:
    return sum(int(np.count_nonzero(k)) for k in kernels(made).values())


def levels(made) -> dict[str, int]:
    """How many values the kernels of quantized layers have at most."""
    return {
        path: max(len(np.unique(column)) for column in layer_kernel.T)
        for path, layer_kernel in (
            (path, layer.quantized_kernel().dequantize())
            for path, layer in walk_layers(made)
            if is_quantized(layer)
        )
    }


def ranks(made) -> dict[str, int]:
    return {
        path.rpartition("/")[0]: int(np.linalg.matrix_rank(kernel))
        for path, kernel in kernels(made).items()
    }


def check_left(before, after, step: str) -> None:
    """Whether what was reached is still there."""
    assert nonzero(after) <= nonzero(before), step
    assert set(levels(before)) <= set(levels(after)), step
    assert all(n <= 2**BITS for n in levels(after).values()), step
    after_ranks = ranks(after)
    for path in ranks(before):
        if path.endswith(("_reduce", "_expand")):
            assert after_ranks[path] <= RANK, step


# Every step is checked, so the triples hold all pairs.
ORDERS = list(itertools.permutations(STEPS, 3))


@pytest.mark.parametrize("order", ORDERS, ids=">".join)
def test_what_a_step_did_the_next_leaves(order, tmp_path) -> None:
    made = model()
    for name in order:
        before = copied(made)
        made = STEPS[name](made)
        check_left(before, made, name)
    path = os.path.join(tmp_path, "m.h5")
    ks.export(made, path, profile="fast")
    loaded = ks.load_model(path)
    expected = kernels(made)
    received = kernels(loaded)
    assert list(expected) == list(received)
    for kernel, other in zip(expected.values(), received.values(), strict=True):
        assert np.array_equal(kernel, other)


def copied(made):
    """The model as it is, apart from what happens to it next."""
    from keras_squeeze.surgery.copying import replicate

    return replicate(made)


def test_every_step_does_something() -> None:
    made = model()
    whole = nonzero(made)
    assert nonzero(prune(model())) <= math.ceil(SPARSITY * whole)
    assert len(levels(quantize(model()))) == 3
    small = factorize(model())
    assert {"first_reduce", "second_expand"} <= set(ranks(small))
    before = kernels(made)["first/kernel"].copy()
    assert not np.array_equal(before, kernels(fine_tune(made))["first/kernel"])


def test_zeros_stay_in_a_plain_fit_with_the_callback_only() -> None:
    made = prune(model())
    pruned = nonzero(made)
    fit(made, ks.callbacks.KeepSparsity())
    assert nonzero(made) == pruned
    fit(made)
    assert nonzero(made) > pruned


def test_a_pruned_kernel_is_not_factorized_into_more_weights() -> None:
    made = prune(model())
    report = ks.factorize(made, rank=RANK, filters="second")[1]
    assert report.rows[0]["layer"] == "second"  # 256 weights, not 512.
    report = ks.factorize(made, rank=RANK + 5, filters="second")[1]
    assert not report.rows
    reasons = {skip["path"]: skip["reason"] for skip in report.skipped}
    assert "are not zero" in reasons["second"]
    report = ks.factorize(made, rank=RANK + 5, keep_sparsity=False)[1]
    assert "second" in [row["layer"] for row in report.rows]

"""Layers with kernels of low rank, and the factors these are made of."""

import keras
import numpy as np

from keras_squeeze.layers.low_rank_conversion import (
    convert_to_low_rank,
    kernel_info_arguments,
    to_canonical,
)

L = keras.layers
IMAGE = (2, 9, 8, 5)
HEADS = {
    "equation": "abc,cde->abde",
    "output_shape": (None, 2, 3),
    "bias_axes": "de",
}
# Name: class, arguments, input shape.
CASES = {
    "dense": (L.Dense, {"units": 6, "activation": "relu"}, (4, 5)),
    "dense_3d": (L.Dense, {"units": 6, "use_bias": False}, (2, 3, 5)),
    "heads": (L.EinsumDense, HEADS, (2, 4, 5)),
    "heads_back": (
        L.EinsumDense,
        {
            "equation": "abcd,cde->abe",
            "output_shape": (None, 6),
            "bias_axes": "e",
            "activation": "tanh",
        },
        (2, 4, 2, 3),
    ),
    "einsum_left": (
        L.EinsumDense,
        {"equation": "...x,xy->...y", "output_shape": 6, "bias_axes": "y"},
        (2, 3, 4, 5),
    ),
    "einsum_left_axes": (
        L.EinsumDense,
        {"equation": "...ax,yx->...ya", "output_shape": (6, 3)},
        (2, 2, 3, 5),
    ),
    "einsum_right": (
        L.EinsumDense,
        {"equation": "ab...,bc->ac...", "output_shape": 6},
        (2, 5, 3, 2),
    ),
    "einsum_swapped": (
        L.EinsumDense,
        {
            "equation": "abc,dec->aebd",
            "output_shape": (3, None, 2),
            "bias_axes": "ed",
        },
        (2, 4, 5),
    ),
    "einsum_summed": (
        L.EinsumDense,
        {"equation": "arc,cd->ad", "output_shape": 6},
        (2, 4, 5),
    ),
    "embedding": (L.Embedding, {"input_dim": 11, "output_dim": 6}, (3, 4)),
    "embedding_mask": (
        L.Embedding,
        {"input_dim": 11, "output_dim": 6, "mask_zero": True},
        (3, 4),
    ),
    "conv1d": (
        L.Conv1D,
        {"filters": 6, "kernel_size": 3, "padding": "same", "strides": 2},
        (2, 9, 5),
    ),
    "conv1d_causal": (
        L.Conv1D,
        {
            "filters": 6,
            "kernel_size": 3,
            "padding": "causal",
            "dilation_rate": 2,
        },
        (2, 9, 5),
    ),
    "conv2d": (
        L.Conv2D,
        {"filters": 6, "kernel_size": 3, "activation": "relu"},
        IMAGE,
    ),
    "conv2d_strides": (
        L.Conv2D,
        {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"},
        IMAGE,
    ),
    "conv2d_uneven": (
        L.Conv2D,
        {
            "filters": 6,
            "kernel_size": (3, 2),
            "strides": (1, 2),
            "padding": "same",
            "use_bias": False,
        },
        IMAGE,
    ),
    "conv2d_dilation": (
        L.Conv2D,
        {"filters": 6, "kernel_size": (3, 2), "dilation_rate": (2, 3)},
        IMAGE,
    ),
    "conv2d_dilation_same": (
        L.Conv2D,
        {
            "filters": 6,
            "kernel_size": 3,
            "dilation_rate": 2,
            "padding": "same",
        },
        IMAGE,
    ),
    "conv2d_pointwise": (
        L.Conv2D,
        {"filters": 6, "kernel_size": 1, "strides": 2},
        IMAGE,
    ),
    "conv3d": (
        L.Conv3D,
        {"filters": 6, "kernel_size": 2, "strides": 2, "padding": "same"},
        (2, 5, 4, 3, 5),
    ),
    "conv3d_dilation": (
        L.Conv3D,
        {"filters": 6, "kernel_size": 2, "dilation_rate": (1, 2, 1)},
        (2, 5, 4, 3, 5),
    ),
}
METHODS = {
    L.Conv1D: ("channel_svd", "tucker2", "cp"),
    L.Conv2D: ("channel_svd", "spatial_svd", "tucker2", "cp"),
    L.Conv3D: ("channel_svd", "spatial_svd", "tucker2"),
}
UNEQUAL = ("conv1d_causal", "conv2d_uneven")
PAIRS = [
    (case, method)
    for case, (kind, _, _) in CASES.items()
    for method in METHODS.get(kind, ("svd",))
    if not (method == "cp" and case in UNEQUAL)
]


def numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def inputs_for(case):
    kind, _, shape = CASES[case]
    generator = np.random.default_rng(1)
    if kind is L.Embedding:
        return generator.integers(0, 11, shape)
    return generator.normal(size=shape).astype("float32")


def factor_shapes(shape, method, rank):
    """Canonical shapes; `tucker2` has one rank more at its second bond."""
    *size, cin, cout = shape
    ones = (1,) * len(size)
    return {
        "svd": [(cin, rank), (rank, cout)],
        "channel_svd": [(*size, cin, rank), (*ones, rank, cout)],
        "spatial_svd": [
            (*size[:1], *ones[1:], cin, rank),
            (*ones[:1], *size[1:], rank, cout),
        ],
        "tucker2": [
            (*ones, cin, rank),
            (*size, rank, rank + 1),
            (*ones, rank + 1, cout),
        ],
        "cp": [
            (*ones, cin, rank),
            (*size, rank, 1),
            (*ones, rank, cout),
        ],
    }[method]


def product(factors, method):
    """The kernel of canonical factors, by sums over shifted axes."""
    if method == "svd":
        return factors[0] @ factors[1]
    spatial = factors[0].ndim - 2
    outer = factors[0]
    if method == "cp":
        core = np.moveaxis(factors[1], -1, -2)
        outer, factors = outer * core, [outer, factors[2]]
    for factor in factors[1:]:
        if factor.shape[-2] != outer.shape[-1]:
            raise AssertionError("the factors do not fit")
        # One of both has a single entry along each spatial axis.
        outer = np.einsum("...ir,...ro->...io", outer, factor)
    assert outer.ndim == spatial + 2
    return outer


def random_factors(layer, method, rank):
    generator = np.random.default_rng(rank)
    shape = kernel_info_arguments(layer)["shape"]
    return [
        generator.normal(size=shape).astype("float32") / 2
        for shape in factor_shapes(shape, method, rank)
    ]


def kernel_of(layer):
    name = "embeddings" if isinstance(layer, L.Embedding) else "kernel"
    return getattr(layer, name)


def give_kernel(layer, canonical):
    """Assigns a kernel that is `canonical` as decompositions see it."""
    shape = tuple(kernel_of(layer).shape)
    places = np.arange(canonical.size).reshape(shape)
    kernel = np.empty(canonical.size, canonical.dtype)
    kernel[to_canonical(layer, places)] = canonical
    kernel_of(layer).assign(kernel.reshape(shape))


def built(case, **arguments):
    kind, config, shape = CASES[case]
    keras.utils.set_random_seed(0)
    layer = kind(**config, **arguments)
    layer.build(shape)
    bias = getattr(layer, "bias", None)
    if bias is not None:
        values = np.linspace(-1, 1, numpy(bias).size)
        bias.assign(values.reshape(bias.shape))
    return layer


def low_rank(case, method, rank=2, **arguments):
    """A plain layer whose kernel has these factors, and the factors."""
    layer = built(case, **arguments)
    factors = random_factors(layer, method, rank)
    give_kernel(layer, product(factors, method))
    return layer, factors


def converted(case, method, rank=2, **arguments):
    layer, factors = low_rank(case, method, rank, **arguments)
    convert_to_low_rank(layer, method, factors)
    return layer

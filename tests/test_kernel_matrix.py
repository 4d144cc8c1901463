import keras
import numpy as np
import pytest

from keras_squeeze.calibration.kernel_matrix import (
    is_depthwise,
    kernel_matrix,
    reason_without_matrix,
)
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.kernel_matrix import KernelMatrix
from keras_squeeze.surgery.layer_tree import Kernel, find_kernels

L = keras.layers

CASES = [
    ((7,), L.Dense(5), (1, 7, 5)),
    ((4, 7), L.EinsumDense("abc,cde->abde", (None, 3, 2)), (1, 7, 6)),
    ((4, 3, 2), L.EinsumDense("abde,dec->abc", (None, 5)), (1, 6, 5)),
    ((4, 3, 2), L.EinsumDense("abde,ced->abc", (None, 5)), (1, 6, 5)),
    ((4, 7), L.EinsumDense("abc,bcd->abd", (4, 5)), (4, 7, 5)),
    ((4, 7), L.EinsumDense("abc,bc->abc", (4, 7)), (28, 1, 1)),
    ((9, 4), L.Conv1D(6, 3), (1, 12, 6)),
    ((9, 8, 4), L.Conv2D(6, 3, groups=2), (2, 18, 3)),
    ((4, 5, 6, 2), L.Conv3D(3, 2), (1, 16, 3)),
    ((9, 8, 4), L.Conv2DTranspose(6, 3), (1, 36, 6)),
    ((9, 4), L.DepthwiseConv1D(3, depth_multiplier=2), (4, 3, 2)),
    ((9, 8, 4), L.DepthwiseConv2D(3), (4, 9, 1)),
    ((5, 4), L.SimpleRNN(3), (1, 4, 3)),
    ((5, 4), L.LSTM(3), (1, 4, 12)),
]


def kernels_of(shape, layer):
    layer.build((None, *shape))
    return find_kernels(layer)


@pytest.mark.parametrize(("shape", "layer", "expected"), CASES)
def test_a_kernel_becomes_matrices_and_comes_back(shape, layer, expected, rng):
    kernel = kernels_of(shape, layer)[0]
    view = kernel_matrix(kernel)
    assert view.matrix_shape == expected
    array = rng.normal(size=tuple(kernel.variable.shape))
    matrix = view.to_matrix(array)
    assert matrix.shape == expected
    np.testing.assert_array_equal(view.from_matrix(matrix), array)


def test_the_kernels_of_a_separable_convolution_are_told_apart():
    layer = L.SeparableConv2D(5, 3, depth_multiplier=2)
    depthwise, pointwise = kernels_of((9, 8, 4), layer)
    assert kernel_matrix(depthwise).matrix_shape == (4, 9, 2)
    assert kernel_matrix(pointwise).matrix_shape == (1, 8, 5)
    assert [is_depthwise(k) for k in (depthwise, pointwise)] == [True, False]


def test_the_groups_of_a_convolution_are_its_output_channels_in_a_row(rng):
    [kernel] = kernels_of((9, 8, 4), L.Conv2D(6, 3, groups=2))
    array = rng.normal(size=(3, 3, 2, 6))
    first, second = kernel_matrix(kernel).to_matrix(array)
    np.testing.assert_array_equal(first, array[..., :3].reshape(18, 3))
    np.testing.assert_array_equal(second, array[..., 3:].reshape(18, 3))


def test_recurrent_kernels_and_embeddings_are_flat():
    for shape, layer in (((5, 4), L.GRU(3)), ((5,), L.Embedding(20, 6))):
        for kernel in kernels_of(shape, layer):
            view = kernel_matrix(kernel)
            assert view.is_flat
            assert view.matrix_shape[1:] == tuple(kernel.variable.shape)


@pytest.mark.parametrize(
    ("flat", "layer"),
    [
        (True, L.Conv2D(6, 3)),
        (False, L.Conv2D(6, 3, groups=2)),
        (False, L.Conv2DTranspose(6, 3)),
        (False, L.DepthwiseConv2D(3)),
    ],
)
def test_only_kernels_that_are_one_matrix_as_they_lie_are_flat(flat, layer):
    [kernel] = kernels_of((9, 8, 4), layer)
    assert kernel_matrix(kernel).is_flat == flat


@pytest.mark.parametrize(
    ("equation", "output", "reason"),
    [
        ("abc,cdd->ab", (4,), "repeats an axis"),
        ("abc,cde->abd", (4, 5), "sums an axis of the kernel alone"),
    ],
)
def test_an_equation_that_is_no_product_of_matrices(equation, output, reason):
    layer = L.EinsumDense("abc,cd->abd", (4, 5))
    [kernel] = kernels_of((4, 7), layer)
    layer.equation = equation
    assert reason in reason_without_matrix(kernel)
    with pytest.raises(SqueezeError, match=f"kernel.*{reason}"):
        kernel_matrix(kernel)


def test_a_layer_nobody_knows_is_named():
    class Mine(L.Layer):
        pass

    kernel = Kernel("mine/kernel", Mine(), "kernel", np.zeros((2, 3)))
    assert "Mine" in reason_without_matrix(kernel)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(SqueezeError, match="as large as its matrices"):
        KernelMatrix((2, 3), (2, 3), (0, 1), 1, 2, 4)
    with pytest.raises(SqueezeError, match="as large as its matrices"):
        KernelMatrix((2, 3), (2, 3), (0, 0), 1, 2, 3)
    with pytest.raises(SqueezeError, match=r"\(2, 3\). Received: \(3, 2\)"):
        KernelMatrix.flat((2, 3)).to_matrix(np.zeros((3, 2)))


def test_a_vector_and_a_number_are_matrices_too():
    assert KernelMatrix.flat((5,)).matrix_shape == (1, 1, 5)
    assert KernelMatrix.flat(()).matrix_shape == (1, 1, 1)

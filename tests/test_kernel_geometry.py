import numpy as np
import pytest

from keras_squeeze.codecs.kernel_geometry import (
    KINDS,
    default_kind,
    from_canonical,
    geometry_of,
    to_canonical,
)

SHAPES = [(), (7,), (5, 3), (4, 3, 2), (3, 2, 5, 4), (2, 3, 2, 4, 3), (3, 0)]


def fitting(shape):
    return [k for k in KINDS if len(shape) > 2 or not k.startswith("conv")]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_fitting_kind_is_a_bijection(shape):
    array = np.arange(int(np.prod(shape))).reshape(shape)
    for kind in fitting(shape):
        geometry = geometry_of(shape, kind)
        canonical = to_canonical(array, geometry)
        sizes = geometry.channels, geometry.taps, geometry.inputs
        assert canonical.shape == sizes
        assert geometry.size == array.size
        back = from_canonical(canonical, geometry, shape)
        assert back.flags.c_contiguous and back.shape == shape
        np.testing.assert_array_equal(back, array)


def test_a_convolution_is_seen_by_channel_tap_and_input():
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    canonical = to_canonical(array, geometry_of(array.shape, "convolution"))
    assert canonical[4, 1 * 3 + 2, 3] == array[1, 2, 3, 4]
    swapped = geometry_of(array.shape, "convolution_transposed")
    assert to_canonical(array, swapped)[3, 5, 4] == array[1, 2, 3, 4]
    assert swapped.width == 3


def test_matrices_differ_in_which_axis_is_the_channel():
    array = np.arange(24).reshape(4, 3, 2)
    first = to_canonical(array, geometry_of(array.shape, "matrix_first_axis"))
    assert first.shape == (6, 1, 4) and first[5, 0, 3] == array[3, 2, 1]
    rows = to_canonical(array, geometry_of(array.shape, "matrix_transposed"))
    assert rows.shape == (4, 1, 6) and rows[3, 0, 5] == array[3, 2, 1]
    columns = to_canonical(array, geometry_of(array.shape, "matrix"))
    assert columns.shape == (2, 1, 12) and columns[1, 0, 11] == array[3, 2, 1]


def test_a_convolution_needs_three_axes_and_a_kind_must_be_known():
    with pytest.raises(ValueError, match="convolution"):
        geometry_of((3, 4), "convolution")
    with pytest.raises(ValueError, match="unknown"):
        geometry_of((3, 4), "unknown")


def test_the_default_is_how_keras_lays_kernels_out():
    kinds = {
        (): "matrix",
        (8,): "matrix",
        (784, 300): "matrix",
        (512, 1): "matrix_transposed",
        (5, 16, 32): "convolution",
        (3, 3, 64, 1): "convolution_transposed",
    }
    assert {shape: default_kind(shape) for shape in kinds} == kinds

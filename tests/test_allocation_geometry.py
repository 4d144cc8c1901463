import numpy as np
import pytest

from keras_squeeze.codecs.context_mixing import ContextMixing
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import allocate
from keras_squeeze.quantizers.allocation_geometry import cheaper_kinds

needs_kernel = pytest.mark.skipif(
    not ContextMixing().is_fast, reason="no compiled kernel"
)


@pytest.fixture(scope="module")
def scaled():
    """Kernels whose scan is told by the signs that alternate along one axis."""
    generator = np.random.default_rng(0)
    kernel = np.abs(generator.normal(size=(3, 3, 16, 24)))
    kernel *= np.where(np.arange(24) // 3 % 2, 1.0, -1.0)
    return {
        "outputs": kernel.astype(np.float32),
        "inputs": kernel.swapaxes(2, 3).astype(np.float32),
    }


@needs_kernel
def test_the_kind_of_fewer_bytes_is_taken(scaled):
    kinds = cheaper_kinds(scaled, {})
    exchanged = cheaper_kinds(
        scaled, dict.fromkeys(scaled, "convolution_transposed")
    )
    assert kinds == exchanged
    assert kinds["outputs"] != kinds["inputs"]


def test_other_kinds_and_tiny_arrays_stay_as_they_are():
    tensors = {
        "heads": np.ones((8, 4, 16), np.float32),
        "tiny": np.eye(4, dtype=np.float32),
        "dead": np.zeros((30, 30), np.float32),
        "vector": np.arange(400.0, dtype=np.float32),
    }
    kinds = cheaper_kinds(tensors, {"heads": "matrix_first_axis"})
    assert kinds == {
        "heads": "matrix_first_axis",
        "tiny": "matrix",
        "dead": "matrix",
        "vector": "matrix",
    }


@needs_kernel
def test_many_states_for_the_small_coder_choose_the_kind(scaled):
    wanted = cheaper_kinds(scaled, {})
    given = dict.fromkeys(scaled, "convolution")
    few, many = (
        allocate(scaled, 20.0, states=n, kinds=given, target="small").tensors
        for n in (32, 64)
    )
    assert {k: t.trellis.geometry for k, t in many.items()} == wanted
    assert {k: t.trellis.geometry for k, t in few.items()} == given


def test_a_kind_that_does_not_fit_is_refused():
    with pytest.raises(SqueezeError, match="kind='convolution'"):
        cheaper_kinds(
            {"kernel": np.ones((30, 30), np.float32)},
            {"kernel": "convolution"},
        )

import numpy as np
import pytest

from keras_squeeze import native
from keras_squeeze.artifact.tensor_encoding import encode_tensor, encode_tensors
from keras_squeeze.artifact.tensor_input import TensorInput
from keras_squeeze.codecs import profiles
from keras_squeeze.codecs.profiles import AUTO_WEIGHTS, choose_small
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import AbsMaxQuantizer

needs_kernels = pytest.mark.skipif(
    not native.available(), reason="auto uses context mixing if compiled"
)


def correlated_kernel():
    """A convolution whose taps resemble each other: context mixing wins."""
    random = np.random.default_rng(0)
    smooth = random.normal(size=(1, 1, 32, 48))
    kernel = smooth + 0.3 * random.normal(size=(3, 3, 32, 48))
    return kernel.astype("float32")


def quantized_input(name="kernel", bits=5):
    tensor = AbsMaxQuantizer(bits=bits).encode(correlated_kernel(), axis=3)
    return TensorInput.from_quantized(name, "float32", tensor)


def codec_ids(coded):
    return {part.codec["id"] for record, _ in coded for part in record.parts}


def test_small_takes_whatever_is_smaller():
    fast, small = [100, 100, 100], [99, 100, None]
    assert choose_small(fast, small, [1, 1, 1], "small") == [True, False, False]


def test_auto_wants_more_than_one_percent():
    fast, small = [1000, 1000, 1000], [989, 990, 991]
    assert choose_small(fast, small, [10, 10, 10]) == [True, False, False]


def test_auto_spends_its_weights_on_the_best_savings():
    half = AUTO_WEIGHTS // 2
    fast, small = [10_000, 10_000, 10_000], [9_000, 5_000, 9_500]
    assert choose_small(fast, small, [half, half, half]) == [True, True, False]
    assert choose_small(fast, small, [half, half, 10]) == [False, True, True]
    assert choose_small([10], [5], [AUTO_WEIGHTS + 1]) == [False]


def test_fast_files_hold_no_context_mixing():
    coded = encode_tensors([quantized_input()], "fast")
    assert "context_mixing" not in codec_ids(coded)


@needs_kernels
@pytest.mark.parametrize("profile", ["auto", "small"])
def test_a_correlated_kernel_is_smaller_than_in_fast(profile):
    tensor = quantized_input()
    [(_, fast)] = encode_tensors([tensor], "fast")
    coded = encode_tensors([tensor], profile)
    assert "context_mixing" in codec_ids(coded)
    assert len(coded[0][1]) < 0.97 * len(fast)


def test_auto_does_without_context_mixing_where_nothing_is_compiled(
    monkeypatch,
):
    monkeypatch.setattr(profiles.ContextMixing, "is_fast", False)
    assert encode_tensor(quantized_input(), "auto").small is None


def test_profiles_have_a_name():
    with pytest.raises(SqueezeError, match="'tiny'"):
        encode_tensors([quantized_input()], "tiny")

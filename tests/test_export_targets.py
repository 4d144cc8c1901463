import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze import artifact
from keras_squeeze.cli import main
from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.saving.allocating import kernel_kind
from keras_squeeze.surgery.layer_tree import find_kernels


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Conv2D(32, 3, activation="relu", name="conv"),
            keras.layers.DepthwiseConv2D(3, name="depthwise"),
            keras.layers.Flatten(),
            keras.layers.Dense(40, name="hidden"),
            keras.layers.Dense(1, name="out"),
        ]
    )


def snr_db(model, reloaded):
    """Size-weighted mean of relative squared errors, as documented."""
    errors = weights = 0
    for kernel, other in zip(
        find_kernels(model), find_kernels(reloaded), strict=True
    ):
        a, b = np.array(kernel.variable), np.array(other.variable)
        if a.size < 64:
            np.testing.assert_array_equal(a, b)
            continue
        errors += a.size * np.mean((a - b) ** 2) / np.mean(a**2)
        weights += a.size
    return -10 * np.log10(errors / weights)


@pytest.mark.parametrize("profile", ["auto", "fast", "small"])
@pytest.mark.parametrize("wanted", [12.0, 24.0])
def test_the_ratio_asked_for_is_reached(tmp_path, model, profile, wanted):
    path = tmp_path / "m.h5"
    report = ks.export(model, path, snr_db=wanted, profile=profile)
    reached = snr_db(model, ks.load_model(path))
    assert reached == pytest.approx(wanted, abs=0.1)
    assert report.totals["snr_db"] == pytest.approx(reached, abs=0.02)


def test_more_decibels_cost_more_bytes(tmp_path, model):
    sizes = [
        ks.export(model, tmp_path / "m.h5", snr_db=s).totals["file_bytes"]
        for s in (6, 12, 18, 24)
    ]
    assert sizes == sorted(sizes) and len(set(sizes)) == 4


def test_quality_is_a_scale_of_decibels(tmp_path, model):
    by_quality = ks.export(model, tmp_path / "q.h5", quality=50)
    by_ratio = ks.export(model, tmp_path / "s.h5", snr_db=24)
    assert by_quality.totals["snr_db"] == by_ratio.totals["snr_db"]


@pytest.mark.parametrize("profile", ["fast", "small"])
def test_the_file_fits_and_the_room_is_used(tmp_path, model, profile):
    middle = ks.export(
        model, tmp_path / "m.h5", snr_db=18, profile=profile
    ).totals["file_bytes"]
    for wanted in (middle, int(1.3 * middle)):
        path = tmp_path / "fit.h5"
        ks.export(model, path, max_bytes=wanted, profile=profile)
        assert 0.97 * wanted < path.stat().st_size <= wanted


def test_an_impossible_size_leaves_no_file(tmp_path, model):
    path = tmp_path / "m.h5"
    with pytest.raises(SqueezeError, match="max_bytes=100"):
        ks.export(model, path, max_bytes=100)
    assert not path.exists()


def test_important_weights_are_kept_better(tmp_path, model):
    kernels = find_kernels(model)
    importance = {
        kernel.path: np.ones(kernel.variable.shape, "float32")
        for kernel in kernels
    }
    importance["conv/kernel"][:] = 100.0

    def error(**arguments):
        ks.export(model, tmp_path / "m.h5", **arguments)
        reloaded = ks.load_model(tmp_path / "m.h5").get_layer("conv")
        found = model.get_layer("conv").kernel - reloaded.kernel
        return float(np.mean(np.array(found) ** 2))

    alike = error(max_bytes=20_000)
    assert error(max_bytes=20_000, importance=importance) < 0.7 * alike


def test_importance_of_every_kernel_is_needed(tmp_path, model):
    with pytest.raises(SqueezeError, match="hidden/kernel"):
        ks.export(model, tmp_path / "m.h5", snr_db=18, importance={})
    with pytest.raises(SqueezeError, match="Expected `importance` or"):
        ks.export(model, tmp_path / "m.h5", importance={})


def output_error(model, reloaded, data):
    """Error of the outputs relative to their mean square."""
    expected = np.array(model(data))
    error = np.array(reloaded(data)) - expected
    return np.mean(error**2) / np.mean(expected**2)


def correlated_images(count, seed, size=12):
    random = np.random.default_rng(seed)
    images = random.normal(size=(count, 3, 3, 3)).astype("float32")
    return images.repeat(size // 3, axis=1).repeat(size // 3, axis=2)


def test_calibration_keeps_outputs_better_in_as_many_bytes(tmp_path):
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(40),
        ]
    )
    seen, unseen = (correlated_images(n, n, size=6) for n in (1024, 64))

    def error(**arguments):
        path = tmp_path / "m.h5"
        ks.export(model, path, max_bytes=5_500, profile="fast", **arguments)
        assert path.stat().st_size <= 5_500
        return output_error(model, ks.load_model(path), unseen)

    better, plain = error(calibration=seen), error()
    assert better < 0.6 * plain, (better, plain)


def test_calibration_and_importance_exclude_each_other(tmp_path, model):
    with pytest.raises(SqueezeError, match="'calibration'"):
        ks.export(
            model,
            tmp_path / "m.h5",
            snr_db=18,
            importance={},
            calibration=correlated_images(2, 0),
        )
    with pytest.raises(SqueezeError, match="'calibration'"):
        ks.export(model, tmp_path / "m.h5", calibration=correlated_images(2, 0))


@pytest.mark.parametrize(
    "arguments",
    [
        {"snr_db": 18, "quality": 50},
        {"snr_db": 18, "bits": 4},
        {"max_bytes": 10_000, "quantizer": "mse"},
    ],
)
def test_targets_exclude_each_other(tmp_path, model, arguments):
    with pytest.raises(SqueezeError, match="at most one"):
        ks.export(model, tmp_path / "m.h5", **arguments)


def test_nan_is_named(tmp_path):
    broken = keras.Sequential([keras.Input((20,)), keras.layers.Dense(20)])
    broken.layers[0].kernel.assign(np.full((20, 20), np.nan))
    with pytest.raises(NonFiniteError, match="dense"):
        ks.export(broken, tmp_path / "m.h5", snr_db=18)


def test_a_model_of_tiny_kernels_says_so(tmp_path):
    tiny = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    with pytest.raises(SqueezeError, match="at least 64"):
        ks.export(tiny, tmp_path / "m.h5", snr_db=18)


def test_kernels_are_seen_as_their_layers_use_them():
    inputs = keras.Input((8, 16))
    layer = keras.layers.MultiHeadAttention(2, 8)
    hidden = layer(inputs, inputs)
    hidden = keras.layers.Conv1D(8, 3, name="conv")(hidden)
    hidden = keras.layers.Conv1DTranspose(8, 3, name="transposed")(hidden)
    outputs = keras.layers.LSTM(8, name="lstm")(hidden)
    kinds = {
        "/".join(kernel.path.split("/")[-2:]): kernel_kind(kernel)
        for kernel in find_kernels(keras.Model(inputs, outputs))
    }
    assert kinds["query/kernel"] == "matrix_first_axis"
    assert kinds["attention_output/kernel"] == "matrix"
    assert kinds["conv/kernel"] == "convolution"
    assert kinds["transposed/kernel"] == "convolution_transposed"
    assert None in kinds.values()


def test_the_command_takes_targets(tmp_path, model):
    model.save(tmp_path / "m.keras")
    names = [str(tmp_path / name) for name in ("m.keras", "m.h5")]
    arguments = ["--max-bytes", "25000", "--profile", "small", "--quiet"]
    assert main(["export", *names, *arguments]) == 0
    assert (tmp_path / "m.h5").stat().st_size <= 25_000
    codecs = {
        part.codec["id"]
        for tensor in artifact.read_manifest(names[1]).tensors
        for part in tensor.parts
    }
    assert "context_mixing" in codecs

"""Files of the encodings `affine` and `codebook`: exact, and never misread."""

import json
import zlib

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze import artifact, quantizers
from keras_squeeze.artifact import Limits, Manifest, TensorInput, manifest
from keras_squeeze.artifact.encodings import (
    FIXED_CODEBOOKS,
    name_of_codebook,
    roles_of,
)
from keras_squeeze.artifact.reading import equal_bits
from keras_squeeze.artifact.tensor_decoding import decode_tensors
from keras_squeeze.artifact.tensor_encoding import encode_tensors
from keras_squeeze.errors import (
    ArtifactError,
    CorruptArtifactError,
    SqueezeError,
    UnsupportedVersionError,
)
from keras_squeeze.quantizers import QuantizedTensor, fixed_codebook
from tests.golden.make_format_1_encodings import (
    affine,
    fixed,
    learned,
    quantized_tensors,
)

MODEL = {"class_name": "Sequential", "name": "m", "config": {"layers": []}}
TENSORS = {
    "affine": affine(4, (1,), None, (6, 5)),
    "learned": learned(3, 5, (1,), None, (6, 5)),
    "nf4": fixed("nf4"),
}


def inputs(dtype="float32"):
    return [
        TensorInput.from_quantized(name, dtype, tensor)
        for name, tensor in TENSORS.items()
    ]


def write(path):
    return artifact.write(str(path), inputs(), MODEL, keras_version="3.15.1")


def coded(name):
    """The record of a tensor as JSON, and its stored bytes."""
    item = TensorInput.from_quantized(name, "float32", TENSORS[name])
    record, payload = encode_tensors([item], "fast")[0]
    whole = Manifest((record,), len(payload), "00" * 32, MODEL)
    return json.loads(whole.to_json()), payload


def decode(content, payload):
    content["payload"]["bytes"] = len(payload)
    content["tensors"][0]["crc32"] = zlib.crc32(payload)
    data = json.dumps(content).encode()
    records = Manifest.from_json(data, Limits()).tensors
    return decode_tensors(records, [payload])[0]


@pytest.mark.parametrize("name", quantized_tensors())
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_decoding_gives_the_bits_of_dequantize(name, dtype):
    tensor = quantized_tensors()[name]
    item = TensorInput.from_quantized(name, dtype, tensor)
    (record, payload), *_ = encode_tensors([item], "fast")
    found = decode_tensors([record], [payload])[0]
    assert equal_bits(found, tensor.dequantize().astype(dtype))
    assert record.nonzero == np.count_nonzero(tensor.dequantize())


def test_export_reloads_float_kernels_that_equal_the_codes(tmp_path, rng):
    layers = [keras.layers.Dense(6, name="a"), keras.layers.Dense(4, name="b")]
    model = keras.Sequential([keras.Input((9,)), *layers])
    kernel = rng.normal(size=(9, 6)).astype("float32")
    kernel[kernel < -0.6] = 0
    layers[0].kernel.assign(kernel)
    for name in ("affine", "nf4", "kmeans", "entropy_constrained"):
        path = tmp_path / f"{name}.h5"
        ks.export(model, path, quantizer=name, bits=4)
        loaded = ks.load_model(path).get_layer("a")
        assert type(loaded) is keras.layers.Dense
        quantizer = quantizers.get(name, bits=4)
        expected = quantizer.encode(kernel, axis=1).dequantize()
        found = keras.ops.convert_to_numpy(loaded.kernel)
        assert equal_bits(found, expected)
        assert not found[kernel == 0].any()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3)])
def test_empty_tensors(shape):
    codes, scale = np.zeros(shape, "int8"), np.ones((1, 1), "float32")
    zero = np.zeros((1, 1), "int16")
    codebook = np.zeros((1, 4), "float32")
    for extra in ({"zero_point": zero}, {"codebook": codebook}):
        tensor = QuantizedTensor(codes, scale, 2, **extra)
        item = TensorInput.from_quantized("w", "float32", tensor)
        (record, payload), *_ = encode_tensors([item], "fast")
        assert decode_tensors([record], [payload])[0].shape == shape


def test_codes_of_16_bits_with_a_zero_point():
    codes = np.array([-32768, 32767, 5], "int16")
    zero = np.array([[32767]], "int16")
    tensor = QuantizedTensor(codes, np.ones((1, 1), "f4"), 16, zero_point=zero)
    item = TensorInput.from_quantized("w", "float32", tensor)
    assert item.arrays["codes"].dtype == np.int32
    assert item.decode().tolist() == [-65535.0, 0.0, -32762.0]


def test_a_fixed_codebook_is_named_and_a_learned_one_stored():
    for name in FIXED_CODEBOOKS:
        item = TensorInput.from_quantized(name, "float32", fixed(name))
        assert item.parameters["codebook"] == name
        assert set(item.arrays) == {"codes", "scale"}
    other = fixed_codebook("nf4", 4)[None].copy()
    assert name_of_codebook(other, 4) == "nf4"
    other[0, 3] = np.nextafter(other[0, 3], 1)
    assert name_of_codebook(other, 4) is None
    item = TensorInput.from_quantized("w", "float32", TENSORS["learned"])
    assert roles_of(item.encoding, item.parameters)[2] == "codebook"


def test_older_readers_are_told_and_old_files_stay_as_they_were(
    tmp_path, monkeypatch
):
    uniform = QuantizedTensor(
        np.array([1, -1], "int8"), np.ones((1, 1), "float32"), 2
    )
    old = TensorInput.from_quantized("w", "float32", uniform)
    artifact.write(str(tmp_path / "old.h5"), [old], MODEL, keras_version="3")
    assert artifact.read_manifest(tmp_path / "old.h5").manifest.requires == ()
    write(tmp_path / "new.h5")
    opened = artifact.read_manifest(tmp_path / "new.h5")
    assert opened.manifest.requires == ("affine", "codebook")
    monkeypatch.setattr(manifest, "KNOWN_REQUIREMENTS", frozenset())
    with pytest.raises(UnsupportedVersionError, match="newer"):
        artifact.read(tmp_path / "new.h5")


def test_the_report_names_encodings_and_counts_all_their_parts(tmp_path):
    report = artifact.describe(write(tmp_path / "a.h5"))
    kinds = [row["codec"].split("-bit ")[0] for row in report.rows]
    assert kinds == ["affine 4", "codebook 3", "nf4 4"]
    for row, tensor in zip(report.rows, TENSORS.values(), strict=True):
        size = tensor.codes.size
        zeros = 1 - np.count_nonzero(tensor.dequantize()) / size
        assert row["sparsity"] == pytest.approx(zeros, abs=1e-4)
        assert row["bits_per_weight"] == round(8 * row["bytes"] / size, 3)


def test_recoding_keeps_the_parts(tmp_path):
    write(tmp_path / "a.h5")
    artifact.recode(tmp_path / "a.h5", tmp_path / "b.h5", "small")
    decoded = artifact.read(tmp_path / "b.h5").decode_all()
    for name, tensor in TENSORS.items():
        assert equal_bits(decoded[name], tensor.dequantize())


def test_no_flipped_bit_changes_a_value_unseen(tmp_path):
    path = tmp_path / "a.h5"
    opened = write(path)
    intact = path.read_bytes()
    start = len(intact) - opened.manifest.payload_bytes
    for position in range(start - 400, len(intact), 9):
        data = bytearray(intact)
        data[position] ^= 1 << (position % 8)
        path.write_bytes(data)
        with pytest.raises(ArtifactError):
            artifact.read(path)


PARAMETERS = {
    "axis": [None, 1, [2], [-1], ["1"], [1, 1], [1.0], [True], [[1]]],
    "bits": [None, 0, 17, 2.5, "4", True, 1 << 70],
    "group_size": [0, -3, 2, 2.5, "6", True],
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize(
    ("key", "value"), [(k, v) for k in PARAMETERS for v in PARAMETERS[k]]
)
def test_hostile_parameters_are_refused(name, key, value):
    content, payload = coded(name)
    content["tensors"][0]["parameters"][key] = value
    with pytest.raises(CorruptArtifactError, match="Received"):
        decode(content, payload)


@pytest.mark.parametrize(
    "value", ["nf5", "", 3, ["nf4"], {"a": 1}, "float8_e4m3", "NF4"]
)
def test_hostile_codebook_names_are_refused(value):
    content, payload = coded("nf4")
    content["tensors"][0]["parameters"]["codebook"] = value
    with pytest.raises(CorruptArtifactError, match="Received"):
        decode(content, payload)


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize(
    "change",
    [
        {"role": "scale"},
        {"role": "values"},
        {"dtype": "float64"},
        {"dtype": "uint8"},
        {"shape": [1 << 40, 1 << 20]},
        {"shape": [3]},
        {"shape": []},
    ],
)
def test_parts_of_other_shapes_are_refused_before_decoding(name, change):
    for place in range(2 if name == "nf4" else 3):
        content, _ = coded(name)
        part = content["tensors"][0]["parts"][place]
        if change == {"role": part.get("role")}:
            continue
        part.update(change)
        with pytest.raises(CorruptArtifactError, match="in the encoding"):
            Manifest.from_json(json.dumps(content).encode(), Limits())


@pytest.mark.parametrize("name", TENSORS)
def test_missing_and_further_parts_are_refused(name):
    for edit in (list.pop, lambda parts: parts.append(dict(parts[0]))):
        content, payload = coded(name)
        edit(content["tensors"][0]["parts"])
        with pytest.raises(CorruptArtifactError, match="Received"):
            decode(content, payload)


@pytest.mark.parametrize("name", ["affine", "learned"])
@pytest.mark.parametrize("code", [-128, 100])
def test_codes_that_are_too_wide_are_refused(name, code):
    content, payload = coded(name)
    part = content["tensors"][0]["parts"][0]
    rest = payload[part["bytes"] :]
    codes = np.zeros(TENSORS[name].codes.shape, "int8")
    codes[2, 3] = code
    part.update(codec="raw", bytes=codes.size)
    with pytest.raises(CorruptArtifactError, match="bits"):
        decode(content, codes.tobytes() + rest)


@pytest.mark.parametrize("name", TENSORS)
def test_only_our_errors_escape_from_edited_payloads(name):
    content, payload = coded(name)
    for position in range(0, len(payload), 3):
        for flip in (1, 255):
            edited = bytearray(payload)
            edited[position] ^= flip
            try:
                found = decode(content, bytes(edited))
            except SqueezeError:
                continue
            assert found.shape == TENSORS[name].codes.shape

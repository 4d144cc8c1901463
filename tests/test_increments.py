"""Files that hold what changed since their base: small and exact."""

import concurrent.futures
import dataclasses
import json
import pickle
import zlib

import numpy as np
import pytest

from keras_squeeze import artifact, quantizers
from keras_squeeze.artifact import Limits, Manifest, TensorInput, increments
from keras_squeeze.artifact.access import Access
from keras_squeeze.artifact.applying import apply
from keras_squeeze.artifact.counterparts import Counterparts
from keras_squeeze.artifact.momentum import fit_momentum, matrix_shape
from keras_squeeze.artifact.predicted_codes import predict_codes
from keras_squeeze.artifact.recoding import tensor_of
from keras_squeeze.artifact.references import equal_bits
from keras_squeeze.artifact.tensor_decoding import decode_tensors
from keras_squeeze.artifact.tensor_encoding import encode_tensors
from keras_squeeze.errors import (
    BaseMismatchError,
    CorruptArtifactError,
    SqueezeError,
    UnsupportedVersionError,
)

CONFIG = {"layers": [{"name": f"layer_{n}", "units": n} for n in range(60)]}
MODEL = {"class_name": "Sequential", "name": "m", "config": CONFIG}


def write(path, tensors, base=None, model=MODEL, **keywords):
    return artifact.write(
        str(path),
        tensors,
        model,
        keras_version="3.15.1",
        base=base,
        **keywords,
    )


def read(path, base=None):
    return artifact.read(path, access=Access(base=base))


def values(arrays):
    return [TensorInput.from_values(n, a) for n, a in arrays.items()]


def quantized(arrays, quantizer="absmax", bits=4, **keywords):
    coder = quantizers.get(quantizer, bits=bits, **keywords)
    return [
        TensorInput.from_quantized(n, "float32", coder.encode(a, axis=1))
        if a.ndim > 1
        else TensorInput.from_values(n, a)
        for n, a in arrays.items()
    ]


@pytest.fixture
def weights(rng):
    return {
        "a/kernel": rng.normal(size=(40, 30)).astype("float32"),
        "a/bias": rng.normal(size=30).astype("float32"),
        "b/kernel": rng.normal(size=(30, 20)).astype("float32"),
        "b/bias": np.zeros(20, "float32"),
        "seed": np.array([7, 0], "uint32"),
    }


def trained(arrays, rng, size=0.01):
    found = {}
    for name, array in arrays.items():
        step = size * rng.normal(size=array.shape)
        found[name] = (array + step).astype(array.dtype)
    return {**found, "seed": arrays["seed"] + np.uint32(1)}


def coder(opened, name):
    record = next(r for r in opened.tensors if r.name == name)
    return [part.codec["id"] for part in record.parts]


def test_an_increment_is_small_and_exact(tmp_path, weights, rng):
    base = write(tmp_path / "a.h5", values(weights))
    new = trained(weights, rng)
    full = write(tmp_path / "full.h5", values(new))
    write(tmp_path / "b.h5", values(new), base)
    opened = read(tmp_path / "b.h5", tmp_path / "a.h5")
    for name, array in opened.decode_all().items():
        assert equal_bits(array, new[name])
        assert equal_bits(opened.decode(name), array)
    assert [r.name for r in opened.tensors] == list(weights)
    assert opened.file_bytes < 0.8 * full.file_bytes
    assert opened.manifest.model == MODEL
    assert opened.manifest.requires == ("base",)
    assert opened.manifest.base.digest == base.digest
    assert coder(opened, "a/kernel") == ["float_residual"]


def test_unchanged_tensors_and_config_cost_nothing(tmp_path, weights):
    small = weights["a/kernel"][:2, :3]
    many = {f"{n}/kernel": small * np.float32(n) for n in range(80)}
    base = write(tmp_path / "a.h5", values(many))
    new = {**many, "7/kernel": small + np.float32(1)}
    opened = write(tmp_path / "b.h5", values(new), base)
    assert [r.name for r in opened.tensors] == list(new)
    assert coder(opened, "8/kernel") == ["same"]
    stored = artifact.read_manifest(tmp_path / "b.h5")
    assert [r.name for r in stored.tensors] == ["7/kernel"]
    assert stored.manifest.base.unchanged == ((0, 0, 7), (1, 8, 72))
    assert stored.stored_manifest_bytes < 400
    found = read(tmp_path / "b.h5", base).decode_all()
    assert all(equal_bits(found[name], new[name]) for name in new)


def test_changed_structure(tmp_path, weights, rng):
    base = write(tmp_path / "a.h5", values(weights))
    new = {
        "b/bias": weights["b/bias"],
        "a/kernel": weights["a/kernel"],
        "b/kernel": rng.normal(size=(30, 5)).astype("float32"),
        "a/bias": weights["a/bias"].astype("float16"),
        "c/kernel": weights["b/kernel"],
    }
    opened = write(tmp_path / "b.h5", values(new), base, model={})
    found = opened.decode_all()
    assert list(found) == list(new)
    assert all(equal_bits(found[name], new[name]) for name in new)
    assert coder(opened, "b/kernel") == ["float_fields"]
    assert opened.manifest.model == {}


def test_numbers_that_keras_appends_do_not_matter(tmp_path, weights, rng):
    old = {
        f"dense{n}/kernel": rng.normal(size=(20, 20)).astype("float32")
        for n in ("", "_1", "_2")
    }
    base = write(tmp_path / "a.h5", values(old))
    new = {
        f"dense_{n}/kernel": array
        for n, array in zip((5, 6, 7), old.values(), strict=True)
    }
    opened = write(tmp_path / "b.h5", values(new), base)
    assert opened.manifest.payload_bytes == 0
    assert [r.base for r in opened.tensors] == list(old)
    found = read(tmp_path / "b.h5", base).decode_all()
    assert all(equal_bits(found[name], new[name]) for name in new)
    pairs = Counterparts(base)
    pairs.skip("dense_5/kernel")
    second = pairs.find(values(new)[1])
    assert second.record.name == "dense_1/kernel"


@pytest.mark.parametrize(
    ("quantizer", "bits", "keywords"),
    [
        ("absmax", 4, {}),
        ("absmax", 8, {"granularity": "per_group", "group_size": 8}),
        ("affine", 4, {}),
        ("nf4", 4, {}),
        ("kmeans", 3, {}),
    ],
)
def test_codes_against_those_of_the_base(
    tmp_path, weights, rng, quantizer, bits, keywords
):
    old = quantized(weights, quantizer, bits, **keywords)
    new = quantized(trained(weights, rng), quantizer, bits, **keywords)
    base = write(tmp_path / "a.h5", old)
    full = write(tmp_path / "full.h5", new)
    opened = write(tmp_path / "b.h5", new, base)
    for tensor, record in zip(new, opened.tensors, strict=True):
        back = tensor_of(opened, record)
        assert back.encoding == tensor.encoding
        for role, array in tensor.arrays.items():
            assert equal_bits(back.arrays[role], array)
    assert coder(opened, "a/kernel")[0] == "difference"
    both = [
        sum(r.stored_bytes for r in o.tensors if r.name == "a/kernel")
        for o in (opened, full)
    ]
    assert both[0] < 0.8 * both[1]


def test_codes_against_a_lossless_base_and_back(tmp_path, weights, rng):
    base = write(tmp_path / "a.h5", values(weights))
    codes = quantized(weights)
    opened = write(tmp_path / "b.h5", codes, base)
    # They follow from its floats and the scale.
    assert coder(opened, "a/kernel")[0] == "same"
    floats = write(tmp_path / "c.h5", values(weights), opened)
    found = read(tmp_path / "c.h5", opened).decode_all()
    assert all(equal_bits(found[name], weights[name]) for name in weights)
    assert floats.file_bytes < write(tmp_path / "d.h5", codes).file_bytes * 10


def test_quantized_tensors_that_are_equal_are_the_bases(tmp_path, weights):
    base = write(tmp_path / "a.h5", quantized(weights))
    opened = write(tmp_path / "b.h5", quantized(weights), base)
    assert opened.manifest.payload_bytes == 0
    assert artifact.read_manifest(tmp_path / "b.h5").tensors == ()
    # Equal codes under another grid are no equal tensor.
    other = [
        dataclasses.replace(t, parameters={**t.parameters, "bits": 8})
        if t.encoding == "quantized"
        else t
        for t in quantized(weights)
    ]
    opened = write(tmp_path / "c.h5", other, base)
    assert len(artifact.read_manifest(tmp_path / "c.h5").tensors) == 2
    assert opened.tensors[0].parameters["bits"] == 8


def test_a_chain_and_its_momentum(tmp_path, rng):
    drift = rng.normal(size=(60, 50)) * 0.01
    drift[:, 3] = 0
    old, history = None, []
    kernel = rng.normal(size=(60, 50))
    for step in range(5):
        kernel = kernel + drift + 0.001 * rng.normal(size=drift.shape)
        kernel[:, 4] = 1
        array = kernel.astype("float32")
        history.append(array)
        name = tmp_path / f"{step}.h5"
        old = write(name, values({"kernel": array}), old)
    assert old.base.base.base.base.base is None
    record = old.tensors[0]
    assert record.parts[0].codec == {"id": "float_residual", "momentum": True}
    sizes = []
    bases = None
    for step, array in enumerate(history):
        bases = read(tmp_path / f"{step}.h5", bases)
        assert equal_bits(bases.decode("kernel"), array)
        sizes.append(bases.tensors[0].stored_bytes)
    # A tenth of the step is new: three bits a weight are known before.
    assert sizes[1] - sizes[2] > 0.7 * 3 * drift.size / 8


def test_a_long_chain_is_decoded_once_a_file(tmp_path, weights, rng):
    opened, kernel = None, weights["a/kernel"][:6, :5]
    for step in range(8):
        kernel = (kernel + 0.01 * rng.normal(size=(6, 5))).astype("float32")
        opened = write(tmp_path / f"{step}.h5", values({"k": kernel}), opened)
    counted = []

    class Counting:
        def __init__(self, source):
            self.source, self.size, self.name = source, source.size, "counted"

        def read(self, start, stop):
            counted.append((start, stop))
            return self.source.read(start, stop)

        def close(self):
            self.source.close()

    def watched(found):
        below = found.base and watched(found.base)
        source = Counting(found.source)
        return dataclasses.replace(found, source=source, base=below)

    whole = watched(opened)
    assert equal_bits(whole.decode("k"), kernel)
    assert len(counted) == 8


def test_the_depth_of_a_chain_is_bounded(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(increments, "MAX_DEPTH", 2)
    first = write(tmp_path / "0.h5", values(weights))
    second = write(tmp_path / "1.h5", values(weights), first)
    third = write(tmp_path / "2.h5", values(weights), second)
    with pytest.raises(BaseMismatchError, match=r"chain of at most 2"):
        write(tmp_path / "3.h5", values(weights), third)


def test_a_missing_or_another_base_is_refused(tmp_path, weights, rng):
    base = write(tmp_path / "a.h5", values(weights))
    other = write(tmp_path / "c.h5", values(trained(weights, rng)))
    write(tmp_path / "b.h5", values(trained(weights, rng)), base)
    with pytest.raises(BaseMismatchError, match=base.digest):
        read(tmp_path / "b.h5")
    with pytest.raises(BaseMismatchError) as caught:
        read(tmp_path / "b.h5", tmp_path / "c.h5")
    assert base.digest in str(caught.value)
    assert other.digest in str(caught.value)
    # A file that needs none takes any.
    assert read(tmp_path / "c.h5", base).base is None


def test_apply_rebuilds_the_very_file(tmp_path, weights, rng):
    for kind, tensors in (("values", values), ("codes", quantized)):
        write(tmp_path / "a.h5", tensors(weights))
        new = tensors(trained(weights, rng))
        base = read(tmp_path / "a.h5")
        write(tmp_path / "b.h5", new, base)
        write(tmp_path / f"{kind}.h5", new)
        report = apply(
            tmp_path / "b.h5", tmp_path / "a.h5", tmp_path / "whole.h5"
        )
        assert len(report.rows) == len(new)
        whole = (tmp_path / "whole.h5").read_bytes()
        assert whole == (tmp_path / f"{kind}.h5").read_bytes()
    with pytest.raises(BaseMismatchError):
        apply(tmp_path / "b.h5", tmp_path / "values.h5", tmp_path / "no.h5")
    assert not (tmp_path / "no.h5").exists()


def test_bytes_do_not_depend_on_the_executor(tmp_path, weights, rng):
    base = write(tmp_path / "a.h5", values(weights))
    new = quantized(trained(weights, rng))
    write(tmp_path / "one.h5", new, base)
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        write(tmp_path / "two.h5", new, base, executor=executor)
    one, two = ((tmp_path / f"{n}.h5").read_bytes() for n in ("one", "two"))
    assert one == two
    reference = Counterparts(base).find(new[0])
    copy = pickle.loads(pickle.dumps(reference))
    assert equal_bits(copy.values, reference.values)


def test_profiles(tmp_path, weights, rng):
    base = write(tmp_path / "a.h5", quantized(weights))
    new = quantized(trained(weights, rng))
    found = {}
    for profile in ("fast", "small", "auto"):
        opened = write(tmp_path / "b.h5", new, base, profile=profile)
        found[profile] = opened.manifest.payload_bytes
    assert found["small"] <= found["auto"] <= found["fast"]
    inner = opened.tensors[0].parts[0].codec["codec"]
    assert isinstance(inner, str | dict)


def coded(tensors, base):
    """Records as JSON, and stored bytes."""
    pairs = encode_tensors(tensors, "fast", base=base)
    records, payloads = zip(*pairs, strict=True)
    size = sum(map(len, payloads))
    manifest = Manifest(records, size, "00" * 32, MODEL)
    return json.loads(manifest.to_json()), list(payloads)


def decode(content, payloads, base):
    for record, payload in zip(content["tensors"], payloads, strict=True):
        record["crc32"] = zlib.crc32(payload)
    content["payload"]["bytes"] = sum(map(len, payloads))
    manifest = Manifest.from_json(json.dumps(content).encode(), Limits())
    return decode_tensors(manifest.tensors, payloads, base)


def change(path, value):
    def attack(content):
        *keys, last = path
        node = content["tensors"][0]
        for key in keys:
            node = node[key]
        node[last] = value

    return attack


PART = ("parts", 0)
ATTACKS = {
    "another shape": change(("shape",), [30, 40]),
    "a larger shape": change(("shape",), [4000, 30]),
    "another dtype": change(("dtype",), "float64"),
    "an integer dtype": change(("dtype",), "int32"),
    "no such tensor": change(("base",), "nowhere"),
    "an unlike tensor": change(("base",), "a/bias"),
    "momentum without a step": change(
        (*PART, "codec"), {"id": "float_residual", "momentum": True}
    ),
    "momentum that is none": change(
        (*PART, "codec"), {"id": "float_residual", "momentum": 7}
    ),
    "same with bytes": change((*PART, "codec"), "same"),
    "differences of floats": change(
        (*PART, "codec"), {"id": "difference", "codec": "raw"}
    ),
    "relative inside relative": change(
        (*PART, "codec"), {"id": "difference", "codec": "same"}
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_records_are_refused(tmp_path, weights, rng, attack):
    base = write(tmp_path / "a.h5", values(weights))
    content, payloads = coded(values(trained(weights, rng)), base)
    assert len(decode(content, payloads, base)) == len(weights)
    ATTACKS[attack](content)
    with pytest.raises(CorruptArtifactError):
        decode(content, payloads, base)


def test_hostile_codes_are_refused(tmp_path, weights, rng):
    base = write(tmp_path / "a.h5", quantized(weights))
    content, payloads = coded(quantized(trained(weights, rng)), base)
    part = content["tensors"][0]["parts"][0]
    assert part["codec"]["id"] == "difference"
    for inner in (None, 3, "same", "nothing", {"id": "float_residual"}):
        part["codec"] = {"id": "difference", "codec": inner}
        with pytest.raises(SqueezeError):
            decode(content, payloads, base)


def test_every_truncation_of_stored_bytes_is_refused(tmp_path, rng):
    arrays = {"k": rng.normal(size=(6, 5)).astype("float32")}
    base = write(tmp_path / "a.h5", values(arrays))
    content, (payload,) = coded(
        values({"k": arrays["k"] * np.float32(1.01)}), base
    )
    for stop in range(len(payload)):
        content["tensors"][0]["parts"][0]["bytes"] = stop
        with pytest.raises(CorruptArtifactError):
            decode(content, [payload[:stop]], base)


REFERENCES = {
    "no reference": None,
    "no digest": {},
    "a short digest": {"digest": "00"},
    "no list of keys": {"digest": "00" * 32, "model": "config"},
    "keys that are none": {"digest": "00" * 32, "model": [1]},
    "no list of runs": {"digest": "00" * 32, "unchanged": 5},
    "a run of two": {"digest": "00" * 32, "unchanged": [[0, 1]]},
    "a negative run": {"digest": "00" * 32, "unchanged": [[0, -1, 2]]},
    "a fraction": {"digest": "00" * 32, "unchanged": [[0, 0.5, 2]]},
    "a vast run": {"digest": "00" * 32, "unchanged": [[0, 0, 1 << 40]]},
    "descending": {"digest": "00" * 32, "unchanged": [[1, 0, 1], [0, 1, 1]]},
}


@pytest.mark.parametrize("name", REFERENCES)
def test_hostile_references_are_refused(name):
    content = json.loads(Manifest((), 0, "00" * 32, MODEL).to_json())
    content["requires"], content["base"] = ["base"], REFERENCES[name]
    with pytest.raises(CorruptArtifactError):
        Manifest.from_json(json.dumps(content).encode(), Limits())


@pytest.mark.parametrize(
    "runs",
    [((1, 0, 1),), ((0, 4, 2),), ((0, 0, 5), (0, 0, 5)), ((0, 0, 1 << 31),)],
    ids=str,
)
def test_runs_that_the_base_does_not_have_are_refused(tmp_path, weights, runs):
    base = write(tmp_path / "a.h5", values(weights))
    increment = write(tmp_path / "b.h5", values(weights), base)
    reference = increments.BaseReference(base.digest, (), runs)
    manifest = Manifest((), 0, "00" * 32, {}, "", ("base",), reference)
    bad = dataclasses.replace(increment, manifest=manifest, base=None)
    with pytest.raises(CorruptArtifactError):
        increments.with_base(bad, base)
    whole = dataclasses.replace(reference, model=("nothing",), unchanged=())
    manifest = dataclasses.replace(manifest, base=whole)
    with pytest.raises(CorruptArtifactError, match="nothing"):
        increments.with_base(dataclasses.replace(bad, manifest=manifest), base)


def test_old_readers_refuse_it(monkeypatch, tmp_path, weights):
    base = write(tmp_path / "a.h5", values(weights))
    write(tmp_path / "b.h5", values(weights), base)
    name = "keras_squeeze.artifact.manifest.KNOWN_REQUIREMENTS"
    monkeypatch.setattr(name, frozenset())
    with pytest.raises(UnsupportedVersionError, match="base"):
        artifact.read_manifest(tmp_path / "b.h5")


def test_predicted_codes():
    grid = {"axis": [1], "bits": 4, "group_size": None}
    scale = np.array([[0.5], [0.0]], "float32")
    found = predict_codes(
        np.array([[0.75, 1], [-9e9, np.nan], [np.inf, 3]], "float32"),
        "quantized",
        grid,
        {"scale": scale},
        "int8",
    )
    assert found.tolist() == [[2, 0], [-128, 0], [0, 0]]
    levels = np.array([[-1, 0, 0.25, 1]], "float32")
    found = predict_codes(
        np.array([[0.9, 0.3], [-4, 0.01]], "float32"),
        "codebook",
        {"axis": [], "bits": 2, "group_size": None},
        {"scale": np.ones((1, 1), "float32"), "codebook": levels},
        "int8",
    )
    assert found.tolist() == [[1, 0], [-2, -1]]


def test_momentum(rng):
    before = rng.normal(size=(40, 6)).astype("float32")
    now = before + np.float32(0.1)
    there = now + np.array([0.05, 0.1, 0, -0.05, 0.19, 9], "float32")
    there[5] = now[5]
    found = fit_momentum(there, now, before)
    assert found.columns.tolist() == [8, 16, 0, -8, 30, 32]
    assert np.flatnonzero(~found.rows).tolist() == [5]
    moved = found.extrapolate(now, before)
    assert equal_bits(moved[5], now[5])
    assert np.abs(moved - there)[:, :5].max() < 3e-3
    assert fit_momentum(now, now, before) is None
    assert fit_momentum(there, now, now) is None
    assert matrix_shape(()) == (1, 1)


def test_momentum_leaves_out_what_would_overflow():
    now = np.array([3e38, 1.0], "float32")
    before = np.array([-3e38, 0.5], "float32")
    found = fit_momentum(np.array([3e38, 1.5], "float32"), now, before)
    assert found is None or np.isfinite(found.extrapolate(now, before)).all()

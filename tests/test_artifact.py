"""Round trips, determinism and damage of whole files."""

import hashlib
import math
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import Limits, TensorInput, inspection
from keras_squeeze.artifact.opened import in_batches
from keras_squeeze.artifact.reading import equal_bits
from keras_squeeze.artifact.tensor_decoding import decode_tensors
from keras_squeeze.errors import (
    CorruptArtifactError,
    LimitExceededError,
    NotAnArtifactError,
    SqueezeError,
)
from keras_squeeze.quantizers import QuantizedTensor, pack_codes

MODEL = {"class_name": "Sequential", "name": "m", "config": {"layers": []}}


def write(path, tensors, **kwargs):
    return artifact.write(
        str(path), tensors, MODEL, keras_version="3.15.1", **kwargs
    )


def some_tensors(rng):
    codes = rng.integers(-7, 8, (30, 20)).astype(np.int8)
    return [
        TensorInput.from_values(
            "dense/kernel", rng.normal(size=(30, 20)).astype("float32")
        ),
        TensorInput.from_values("dense/bias", np.zeros(20, "float32")),
        TensorInput.from_values("seed", np.array([1, 2], "int64")),
        TensorInput.from_packed(
            "packed", pack_codes(codes.ravel(), 4), 4, codes.size
        ),
        TensorInput.from_quantized(
            "quantized",
            "float32",
            QuantizedTensor(
                codes=codes,
                scale=np.full((20, 1), 0.25, "float32"),
                bits=4,
                axis=(1,),
                group_size=None,
            ),
        ),
    ]


@pytest.fixture
def small(tmp_path, rng):
    path = tmp_path / "small.h5"
    tensors = some_tensors(rng)
    write(path, tensors)
    return path, tensors


def test_round_trip_of_every_encoding(small):
    path, tensors = small
    decoded = artifact.read(path).decode_all()
    assert list(decoded) == [tensor.name for tensor in tensors]
    for tensor in tensors:
        assert equal_bits(decoded[tensor.name], tensor.decode())
    assert np.all(decoded["quantized"] == tensors[-1].arrays["codes"] * 0.25)


def test_special_values_keep_their_bits(tmp_path):
    bits = np.array(
        [0x7FC00001, 0xFF800001, 0x80000000, 1, 0x7F7FFFFF, 0xFF800000],
        "uint32",
    )
    values = np.tile(bits.view("float32"), 50)
    write(tmp_path / "a.h5", [TensorInput.from_values("w", values)])
    read = artifact.read(tmp_path / "a.h5").decode("w")
    assert np.array_equal(read.view("uint32"), values.view("uint32"))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (2, 3, 5)])
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "float64"]
)
def test_shapes_and_dtypes(tmp_path, rng, shape, dtype):
    values = (rng.normal(size=shape) * 50).astype(dtype)
    write(tmp_path / "a.h5", [TensorInput.from_values("w", np.asarray(values))])
    assert equal_bits(artifact.read(tmp_path / "a.h5").decode("w"), values)


def test_equal_input_gives_equal_bytes_whenever_and_in_parallel(tmp_path, rng):
    tensors = some_tensors(rng)
    write(tmp_path / "a.h5", tensors)
    time.sleep(1.1)
    with ThreadPoolExecutor(3) as executor:
        write(tmp_path / "b.h5", tensors, executor=executor)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_work_items_can_be_pickled(rng):
    for tensor in some_tensors(rng):
        assert pickle.loads(pickle.dumps(tensor)).name == tensor.name


def test_container_overhead(small):
    path, _ = small
    totals = artifact.inspect(path).totals
    assert totals["container_bytes"] <= 1500
    assert totals["file_bytes"] == path.stat().st_size
    raw_manifest = artifact.read(path).manifest.to_json()
    assert totals["manifest_bytes"] < len(raw_manifest)


def test_digest_vouches_for_the_content(small, tmp_path, rng):
    path, tensors = small
    digest = artifact.read(path).digest
    tensors[1] = TensorInput.from_values("dense/bias", np.ones(20, "float32"))
    other = write(tmp_path / "other.h5", tensors)
    assert len(digest) == 64
    assert other.digest != digest


def test_inspect_and_verify(small):
    path, tensors = small
    rows = artifact.inspect(path).to_dict()["rows"]
    assert [row["tensor"] for row in rows] == [t.name for t in tensors]
    assert rows[1]["sparsity"] == 1.0
    assert "dense/kernel" in str(artifact.inspect(path))
    report = artifact.verify(path)
    assert report.totals["ok"] is True
    assert report.totals["damaged"] == 0


def test_verify_names_the_damaged_tensors(small):
    path, _ = small
    opened = artifact.read(path)
    data = bytearray(path.read_bytes())
    payload_start = len(data) - opened.manifest.payload_bytes
    packed = opened.tensors[3]
    data[payload_start + packed.offset + 5] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match="'packed'"):
        artifact.read(path)
    with pytest.raises(CorruptArtifactError) as caught:
        artifact.verify(path)
    damaged = [
        row["tensor"]
        for row in caught.value.report.rows
        if row["status"] == "damaged"
    ]
    assert damaged == ["packed"]


def test_foreign_files_get_a_clear_error(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"PK\x03\x04 something")
    with pytest.raises(NotAnArtifactError, match="PK"):
        artifact.inspect(tmp_path / "a.h5")
    with pytest.raises(FileNotFoundError):
        artifact.inspect(tmp_path / "missing.h5")


def test_declared_sizes_are_bounded_before_decoding(small):
    path, _ = small
    with pytest.raises(LimitExceededError, match="decoded bytes"):
        artifact.read(path, Limits(max_decoded_bytes=100))
    with pytest.raises(LimitExceededError, match="number of tensors"):
        artifact.read(path, Limits(max_tensors=2))
    with pytest.raises(LimitExceededError, match="manifest"):
        artifact.read(path, Limits(max_manifest_bytes=10))


def test_decode_of_an_unknown_name(small):
    path, _ = small
    with pytest.raises(SqueezeError, match="'nothing'"):
        artifact.read(path).decode("nothing")
    with pytest.raises(SqueezeError, match="manifest only"):
        artifact.read_manifest(path).decode("seed")


def test_constant_tensors_cost_almost_nothing(tmp_path):
    zeros = np.zeros((1000, 1000), "float32")
    write(tmp_path / "a.h5", [TensorInput.from_values("w", zeros)])
    opened = artifact.read(tmp_path / "a.h5")
    assert opened.file_bytes < 2500
    assert not opened.decode("w").any()


def test_stream_size_matches_the_documented_layout(small):
    path, _ = small
    opened = artifact.read(path)
    data = path.read_bytes()
    start = data.index(b"\x89KSQ\r\n\x1a\n")
    assert int.from_bytes(data[start + 8 : start + 10], "little") == 1
    manifest_bytes = int.from_bytes(data[start + 12 : start + 16], "little")
    payload = data[start + 60 + manifest_bytes :]
    assert hashlib.sha256(payload).hexdigest() == (
        opened.manifest.payload_sha256
    )
    digest = hashlib.sha256(
        data[start + 8 : start + 28]
        + data[start + 60 : start + 60 + manifest_bytes]
    )
    assert digest.hexdigest() == opened.digest
    assert len(payload) == sum(t.stored_bytes for t in opened.tensors)
    assert math.prod(opened.tensors[0].shape) == 600


def test_an_undecodable_part_names_its_tensor(small):
    path, _ = small
    opened = artifact.read(path)
    payloads = [opened.stored(tensor) for tensor in opened.tensors]
    place = [t.name for t in opened.tensors].index("packed")
    payloads[place] = payloads[place][:-1]
    with pytest.raises(CorruptArtifactError, match="Tensor 'packed'"):
        decode_tensors(opened.tensors, payloads)


def test_verify_finds_what_decodes_wrong_though_its_digests_match(
    small, monkeypatch
):
    path, _ = small
    whole = artifact.read_manifest(path)
    places = {t.name: t for t in whole.tensors}
    real = inspection.decode_tensors
    batches = []

    def failing(tensors, payloads, base):
        batches.append(len(tensors))
        if places["packed"].name in [t.name for t in tensors]:
            raise CorruptArtifactError("Expected x. Received: y")
        return real(tensors, payloads, base=base)

    monkeypatch.setattr(inspection, "decode_tensors", failing)
    with pytest.raises(CorruptArtifactError) as caught:
        artifact.verify(path)
    status = {r["tensor"]: r["status"] for r in caught.value.report.rows}
    assert [n for n, s in status.items() if s == "damaged"] == ["packed"]
    assert batches == [5, 1, 1, 1, 1, 1]


def test_an_intact_file_is_verified_in_one_batch(small, monkeypatch):
    path, tensors = small
    batches = []

    def counting(records, payloads, base):
        batches.append(len(records))
        return decode_tensors(records, payloads, base=base)

    monkeypatch.setattr(inspection, "decode_tensors", counting)
    assert artifact.verify(path).totals["ok"]
    assert batches == [len(tensors)]


def test_iterate_gives_every_tensor_in_order_whatever_the_batch(small):
    path, tensors = small
    with artifact.read(path) as opened:
        whole = opened.decode_all()
        for batch_bytes in (1, 3000, 1 << 30):
            pairs = list(opened.iterate(batch_bytes))
            assert [record.name for record, _ in pairs] == list(whole)
            for record, array in pairs:
                assert equal_bits(array, whole[record.name])
    assert len(whole) == len(tensors)


def test_batches_hold_what_was_asked_for_or_one_tensor(small):
    records = artifact.read(small[0]).tensors
    sizes = [record.decoded_bytes for record in records]
    assert [len(batch) for batch in in_batches(records, 1)] == [1] * 5
    assert [len(batch) for batch in in_batches(records, sum(sizes))] == [5]
    most = max(sizes)
    for batch in in_batches(records, most):
        assert sum(record.decoded_bytes for record in batch) <= most
    assert list(in_batches([])) == []


def test_a_closed_artifact_tells_but_reads_no_more(small, monkeypatch):
    monkeypatch.setattr("keras_squeeze.artifact.access.SMALL_FILE_BYTES", 0)
    with artifact.read(small[0]) as opened:
        assert len(opened.payload) == opened.manifest.payload_bytes
    assert len(opened.tensors) == 5
    with pytest.raises(ValueError, match="closed"):
        opened.decode("seed")
    opened.close()


def test_no_descriptor_is_left_open_when_reading_fails(small, monkeypatch):
    monkeypatch.setattr("keras_squeeze.artifact.access.SMALL_FILE_BYTES", 0)
    path, _ = small
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    closed = []
    close = os.close
    monkeypatch.setattr(os, "close", lambda fd: closed.append(close(fd)))
    with pytest.raises(CorruptArtifactError):
        artifact.read(path)
    with pytest.raises(LimitExceededError):
        artifact.read(path, Limits(max_tensors=1))
    artifact.read_manifest(path)
    assert len(closed) == 3

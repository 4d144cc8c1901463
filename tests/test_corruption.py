"""Damage is seen: every bit, every length, pages, parts of other files.

KERAS_SQUEEZE_ROUNDS multiplies what is drawn at random.
"""

import dataclasses
import hashlib
import json
import os
import tracemalloc
import zlib

import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput
from keras_squeeze.artifact.container import skeleton_start
from keras_squeeze.artifact.reading import (
    check_payload,
    equal_bits,
    parse_source,
)
from keras_squeeze.artifact.sources import BytesSource
from keras_squeeze.artifact.stream import parse_header
from keras_squeeze.cli import main
from keras_squeeze.errors import (
    ArtifactError,
    CorruptArtifactError,
    SqueezeError,
)
from tests.handmade_files import file_of, raw_file

ROUNDS = int(os.environ.get("KERAS_SQUEEZE_ROUNDS", "1"))
MODEL = {"class_name": "Sequential", "name": "m", "config": None}


def read(data):
    """All tensors of a file in memory, every digest checked."""
    opened = parse_source(BytesSource(bytes(data), "a.h5"))
    check_payload(opened)
    return opened.decode_all()


def write(path, tensors):
    artifact.write(str(path), tensors, MODEL, keras_version="3.15.1")
    return path.read_bytes()


def is_seen(data, expected):
    """Whether damage raises, or changed nothing that is read."""
    try:
        decoded = read(data)
    except SqueezeError:
        return True
    return list(decoded) == list(expected) and all(
        equal_bits(decoded[name], expected[name]) for name in expected
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    rng = np.random.default_rng(1)
    codes = rng.integers(-7, 8, 40).astype(np.int8)
    tensors = [
        TensorInput.from_values("bias", np.zeros(5, "float32")),
        TensorInput.from_values("codes", codes),
    ]
    return write(tmp_path_factory.mktemp("small") / "a.h5", tensors)


@pytest.fixture(scope="module")
def large():
    """About one megabyte, 200 tensors."""
    rng = np.random.default_rng(2)
    return raw_file(
        {
            f"layer{i}/kernel": rng.integers(0, 256, 5300).astype(np.uint8)
            for i in range(200)
        }
    )


# --- C1, C2: flipped bits -----------------------------------------------------


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_of_a_small_file_raises(small, bit):
    assert len(small) < 2500
    silent = []
    for place in range(len(small)):
        data = bytearray(small)
        data[place] ^= 1 << bit
        try:
            read(data)
        except ArtifactError:
            continue
        silent.append(place)
    assert silent == []


def test_random_flips_of_a_large_file(large):
    expected = read(large)
    rng = np.random.default_rng(3)
    unseen = 0
    for _ in range(60 * ROUNDS):
        data = bytearray(large)
        for bit in rng.integers(0, 8 * len(large), rng.integers(1, 4)):
            data[bit // 8] ^= 1 << bit % 8
        unseen += not is_seen(data, expected)
    assert unseen == 0


@pytest.mark.slow
@pytest.mark.skipif(
    "KERAS_SQUEEZE_ROUNDS" not in os.environ,
    reason="ten minutes and more; the test above flips fewer bits",
)
def test_100_000_single_flips_of_a_large_file():
    rng = np.random.default_rng(8)
    # Few tensors: what takes long is the manifest.
    data = bytearray(
        raw_file(
            {
                f"layer{i}/kernel": rng.integers(0, 256, 1 << 17, "u1")
                for i in range(8)
            }
        )
    )
    expected, silent = read(data), []
    drawn = rng.integers(0, 8 * len(data), 100_000)
    for bit in drawn.tolist():
        data[bit // 8] ^= 1 << bit % 8
        if not is_seen(data, expected):
            silent.append(bit)
        data[bit // 8] ^= 1 << bit % 8
    assert silent == []


# --- C3: lengths, pages, splices ----------------------------------------------


def test_every_truncation_raises(small):
    for size in range(len(small)):
        with pytest.raises(ArtifactError):
            read(small[:size])


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\x89KSQ\r\n\x1a\n"])
def test_every_extension_raises(small, filler):
    for count in range(1, 4097, 1 if filler == b"\0" else 61):
        with pytest.raises(ArtifactError):
            read(small + (filler * count)[:count])


def test_bytes_before_the_file_raise(small):
    for count in (1, 8, 512, 1024):
        with pytest.raises(ArtifactError):
            read(bytes(count) + small)


def pages_of(data, size=4096):
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_zeroed_pages(large):
    pages = pages_of(large)
    for place in range(0, len(pages), max(1, 8 // ROUNDS)):
        changed = [*pages]
        changed[place] = bytes(len(pages[place]))
        with pytest.raises(ArtifactError):
            read(b"".join(changed))


def test_swapped_pages(large):
    pages = pages_of(large)
    rng = np.random.default_rng(4)
    for _ in range(20 * ROUNDS):
        changed = [*pages]
        i, j = rng.choice(len(pages) - 1, 2, replace=False)
        changed[i], changed[j] = changed[j], changed[i]
        with pytest.raises(ArtifactError):
            read(b"".join(changed))


def test_two_files_spliced(tmp_path):
    rng = np.random.default_rng(5)
    first, second = (
        write(
            tmp_path / f"{name}.h5",
            [TensorInput.from_values("w", rng.normal(size=300))],
        )
        for name in "ab"
    )
    for cut in range(1, min(len(first), len(second)), 7):
        data = first[:cut] + second[cut:]
        if data not in (first, second):
            with pytest.raises(ArtifactError):
                read(data)


def test_the_manifest_of_one_file_with_the_payload_of_another(tmp_path):
    """The stream is whole and the sizes fit, but it is two files'."""
    arrays = [np.arange(100, dtype=np.uint8), np.arange(100, 200, dtype="u1")]
    streams = []
    for number, array in enumerate(arrays):
        data = write(
            tmp_path / f"{number}.h5", [TensorInput.from_values("w", array)]
        )
        streams.append(data[data.index(b"\x89KSQ") :])
    header = parse_header(streams[0], len(streams[0]), artifact.Limits())
    stream = streams[0][: header.payload_offset]
    stream += streams[1][-header.payload_bytes :]
    data = skeleton_start(len(stream), "3.15.1", "tensorflow") + stream
    with pytest.raises(CorruptArtifactError, match="damaged tensors: 'w'"):
        read(data)


# --- C4: the damaged tensor is named ------------------------------------------


def damage(data, places):
    """The file with the tensors at these places changed, and their names."""
    opened = parse_source(BytesSource(data, "a.h5"))
    start = len(data) - opened.manifest.payload_bytes
    changed = bytearray(data)
    for place in places:
        changed[start + opened.tensors[place].offset + 10] ^= 0x20
    return bytes(changed), [opened.tensors[place].name for place in places]


def test_verify_lists_all_damaged_tensors(large, tmp_path, capsys):
    data, names = damage(large, [3, 70, 199])
    path = tmp_path / "bad.h5"
    path.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match="'layer3/kernel'"):
        artifact.read(path)
    assert main(["verify", str(path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    rows = [row["tensor"] for row in report["rows"] if row["status"] != "ok"]
    assert rows == names
    assert report["totals"]["ok"] is False
    assert report["totals"]["damaged"] == 3
    assert report["error_type"] == "CorruptArtifactError"
    assert all(repr(name) in report["error"] for name in names)
    assert main(["verify", str(path), "--quiet"]) == 1
    assert "'layer70/kernel'" in capsys.readouterr().err


def test_damage_in_a_tensor_does_not_stop_the_others(large):
    data, names = damage(large, [5])
    opened = parse_source(BytesSource(data, "a.h5"))
    with pytest.raises(CorruptArtifactError, match="'layer5/kernel'"):
        opened.decode(names[0])
    assert opened.decode("layer6/kernel").shape == (5300,)
    decoded = []
    with pytest.raises(CorruptArtifactError, match="'layer5/kernel'"):
        for record, _ in opened.iterate(batch_bytes=1):
            decoded.append(record.name)
    assert decoded == [f"layer{i}/kernel" for i in range(5)]


# --- C5: an attacker recomputes the digests -----------------------------------


def test_recomputed_digests_pass_but_not_the_expected_one(small, tmp_path):
    """Integrity is no authenticity: that takes a digest or a signature."""
    path = tmp_path / "a.h5"
    path.write_bytes(small)
    expected = hashlib.sha256(small).hexdigest()
    assert artifact.verify(path, expected_sha256=expected).totals["ok"]
    path.write_bytes(forge(small))
    assert artifact.verify(path).totals["ok"]
    assert artifact.read(path).decode("codes")[0] == 99
    with pytest.raises(ArtifactError, match="SHA-256"):
        artifact.verify(path, expected_sha256=expected)


def forge(data):
    """The same file with other values, every checksum in it made to match."""
    opened = parse_source(BytesSource(data, "a.h5"))
    tensor = opened.tensors[1]
    payload = bytearray(opened.payload)
    forged = np.full(40, 99, np.int8)
    part = dataclasses.replace(
        tensor.parts[0], codec={"id": "raw"}, stored_bytes=40
    )
    payload[tensor.offset :] = forged.tobytes()
    record = dataclasses.replace(
        tensor, parts=(part,), crc32=zlib.crc32(forged.tobytes())
    )
    manifest = dataclasses.replace(
        opened.manifest,
        tensors=(opened.tensors[0], record),
        payload_bytes=len(payload),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
    )
    return file_of(manifest.to_json(), bytes(payload))


# --- memory -------------------------------------------------------------------


def test_tensors_are_decoded_in_bounded_memory(tmp_path):
    rng = np.random.default_rng(6)
    arrays = {
        f"w{i}": rng.integers(0, 256, 1 << 20).astype(np.uint8)
        for i in range(40)
    }
    path = tmp_path / "a.h5"
    path.write_bytes(raw_file(arrays))
    assert path.stat().st_size > 40 << 20
    tracemalloc.start()
    try:
        with artifact.read(path) as opened:
            for record, array in opened.iterate(batch_bytes=4 << 20):
                assert np.array_equal(array, arrays[record.name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30 << 20


def test_a_file_that_shrinks_while_it_is_open(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_squeeze.artifact.access.SMALL_FILE_BYTES", 0)
    path = tmp_path / "a.h5"
    values = np.random.default_rng(7).normal(size=5000)
    write(path, [TensorInput.from_values("w", values)])
    with artifact.read(path) as opened:
        os.truncate(path, 3000)
        with pytest.raises(CorruptArtifactError, match="when it was opened"):
            opened.decode("w")

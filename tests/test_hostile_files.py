"""Files made to harm: manifests, bombs, mutations, files that change.

The HDF5 around the stream is the matter of `test_container` and
`test_hdf5_skeleton`. KERAS_SQUEEZE_ROUNDS multiplies what is drawn at random.
"""

import json
import os
import random
import tracemalloc
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from keras_squeeze import artifact, codecs
from keras_squeeze.artifact import Limits, TensorInput, reading
from keras_squeeze.artifact.access import Access
from keras_squeeze.artifact.container import skeleton_start
from keras_squeeze.artifact.inspection import describe
from keras_squeeze.artifact.reading import check_payload, parse_source
from keras_squeeze.artifact.sources import BytesSource
from keras_squeeze.artifact.stream import pack_stream_start
from keras_squeeze.errors import (
    ArtifactError,
    CorruptArtifactError,
    LimitExceededError,
    NotAnArtifactError,
    SqueezeError,
)
from keras_squeeze.quantizers import QuantizedTensor
from tests.handmade_files import bomb, file_of
from tests.hdf5_builder import regions_of_metadata, reseal

GOLDEN = sorted(Path(__file__).parent.glob("golden/format-1*/*.h5"))
ROUNDS = int(os.environ.get("KERAS_SQUEEZE_ROUNDS", "1"))
MODEL = {"class_name": "Sequential", "name": "m", "config": None}


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """An intact file of several encodings, as bytes."""
    rng = np.random.default_rng(0)
    codes = rng.integers(-7, 8, (30, 20)).astype(np.int8)
    quantized = QuantizedTensor(
        codes=codes,
        scale=np.full((20, 1), 0.25, "float32"),
        bits=4,
        axis=(1,),
        group_size=None,
    )
    tensors = [
        TensorInput.from_values("kernel", rng.normal(size=(9, 8))),
        TensorInput.from_values("bias", np.zeros(20, "float32")),
        TensorInput.from_quantized("quantized", "float32", quantized),
    ]
    path = tmp_path_factory.mktemp("valid") / "a.h5"
    artifact.write(str(path), tensors, MODEL, keras_version="3.15.1")
    return path.read_bytes()


@pytest.fixture(scope="module")
def content(valid):
    """The manifest's JSON and the payload."""
    opened = parse_source(BytesSource(valid, "a.h5"))
    return opened.manifest.to_json(), opened.payload


def read(data, limits=None):
    opened = parse_source(BytesSource(data, "a.h5"), limits)
    check_payload(opened)
    return opened.decode_all()


def edited(content, change):
    manifest = json.loads(content[0])
    change(manifest)
    return file_of(json.dumps(manifest).encode(), content[1])


def test_the_rebuilt_file_is_read(valid, content):
    assert file_of(*content) == valid
    assert list(read(edited(content, lambda _: None))) == [
        "kernel",
        "bias",
        "quantized",
    ]


# --- H4: manifests ------------------------------------------------------------

HUGE = 1 << 62
NAMES = [
    "__proto__",
    "__class__",
    "../../etc/passwd",
    "/absolute",
    "a//b",
    "",
    ".",
    "nul\0byte",
    "\u202egnp.exe",
    "\x1b]0;title\x07",
    "line\nbreak",
    "\ud800",
    "e\u0301",
    "x" * 1024,
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_only_a_name(content, name):
    """No name is a path, code, or an order to a terminal."""

    def change(manifest):
        manifest["tensors"][0]["name"] = name

    data = edited(content, change)
    opened = parse_source(BytesSource(data, "a.h5"))
    assert next(iter(opened.decode_all())) == name
    shown = str(describe(opened)) + json.dumps(describe(opened).to_dict())
    assert not set("\0\x1b\x07\u202e\ud800") & set(shown)
    shown.encode()


def set_tensor(place=0, **fields):
    return lambda manifest: manifest["tensors"][place].update(fields)


def set_part(place=0, part=0, **fields):
    return lambda manifest: manifest["tensors"][place]["parts"][part].update(
        fields
    )


def set_codec(**fields):
    def change(manifest):
        part = manifest["tensors"][2]["parts"][0]
        codec = part["codec"]
        codec = {"id": codec} if isinstance(codec, str) else codec
        part["codec"] = {**codec, **fields}

    return change


def swap_tensors(manifest):
    manifest["tensors"][0], manifest["tensors"][2] = (
        manifest["tensors"][2],
        manifest["tensors"][0],
    )


def repeat_a_tensor(manifest):
    manifest["tensors"].append(manifest["tensors"][0])


def all_on_one_range(manifest):
    """The attack on formats that give offsets: here there are none."""
    record = manifest["tensors"][0]
    manifest["tensors"] = [{**record, "name": f"t{i}"} for i in range(1000)]


def gap(manifest):
    manifest["tensors"][0]["parts"][0]["bytes"] -= 1


def offsets_are_not_believed(manifest):
    manifest["tensors"][0]["offset"] = 1 << 40
    manifest["tensors"][0]["crc32"] ^= 1


def unbounded_model(manifest):
    manifest["model"]["config"] = {"a": "x" * (17 << 20)}


def deep(levels):
    def change(manifest):
        node = []
        for _ in range(levels):
            node = [node]
        manifest["model"]["config"] = node

    change.__name__ = f"deep_{levels}"
    return change


@pytest.mark.parametrize(
    "change",
    [
        set_tensor(shape=[HUGE, HUGE]),
        set_tensor(shape=[1 << 32, 1 << 32, 0]),
        set_tensor(shape=[-9, -8]),
        set_tensor(shape=[72.0]),
        set_tensor(shape=[True] * 4),
        set_tensor(shape=[1] * 33),
        set_tensor(shape=[73]),
        set_tensor(shape=None),
        set_tensor(dtype="float32"),
        set_tensor(dtype="O"),
        set_tensor(dtype="object"),
        set_tensor(dtype="U8"),
        set_tensor(dtype="M8[s]"),
        set_tensor(dtype="float64, (3,)float64"),
        set_tensor(dtype=[["a", "<f8"]]),
        set_tensor(crc32=-1),
        set_tensor(crc32=1 << 40),
        set_tensor(name=None),
        set_tensor(name={"a": 1}),
        set_tensor(name="x" * 1025),
        set_tensor(name="bias"),
        set_tensor(encoding="pickle"),
        set_tensor(encoding=["values"]),
        set_tensor(encoding={}),
        set_tensor(parts=[]),
        set_tensor(parts={}),
        set_tensor(parts=[None]),
        set_tensor(nonzero=-1),
        set_tensor(2, parameters=None),
        set_tensor(2, parameters={"bits": HUGE, "axis": [1]}),
        set_tensor(2, parameters={"bits": 0, "axis": [1], "group_size": None}),
        set_tensor(2, parameters={"bits": 4, "axis": [7], "group_size": None}),
        set_tensor(2, parameters={"bits": 4, "axis": [1], "group_size": 0}),
        set_tensor(2, encoding="codebook"),
        set_tensor(2, encoding="affine"),
        set_tensor(2, encoding="packed", parameters={"width": HUGE}),
        set_part(bytes=-1),
        set_part(bytes=HUGE),
        set_part(bytes=1e3),
        set_part(codec={"id": "pickle"}),
        set_part(codec={"id": ["raw"]}),
        set_part(codec={}),
        set_part(codec=None),
        set_part(codec={"id": "raw", "surprise": 1}),
        set_part(2, 0, role="scale"),
        set_part(2, 0, shape=[HUGE]),
        set_part(2, 0, dtype="float64"),
        set_part(2, 1, shape=[1 << 31, 1]),
        set_codec(lanes=1 << 32),
        set_codec(lanes=-1),
        set_codec(precision=64),
        set_codec(trellis={"states": 1 << 40}),
        swap_tensors,
        repeat_a_tensor,
        all_on_one_range,
        gap,
        offsets_are_not_believed,
        unbounded_model,
        deep(200),
        lambda manifest: manifest.update(requires=["a feature of tomorrow"]),
        lambda manifest: manifest.update(requires=[["base"]]),
        lambda manifest: manifest.update(requires=["base"]),
        lambda manifest: manifest.update(tensors={}),
        lambda manifest: manifest.update(tensors=None),
        lambda manifest: manifest.update(payload=None),
        lambda manifest: manifest.update(model=[1]),
        lambda manifest: manifest["payload"].update(bytes=1),
        lambda manifest: manifest["payload"].update(sha256=None),
        lambda manifest: manifest["payload"].update(sha256=["0" * 64]),
        lambda manifest: manifest.pop("tensors"),
    ],
)
def test_a_manifest_that_lies_is_refused(content, change):
    data = edited(content, change)
    tracemalloc.start()
    try:
        with pytest.raises(SqueezeError, match="Received"):
            read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b"{",
        b"\xff\xfe{}",
        b'{"tensors": NaN}',
        b'{"tensors": Infinity}',
        b'{"tensors": [], "tensors": []}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 5_000_000,
        b'{"tensors": 1e999999999}',
        b'{"tensors": "\xed\xa0\x80"}',
        b"\0" * 100,
        b'{"tensors": []}' + b" " * 100 + b"{}",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_json_that_is_no_manifest(text):
    with pytest.raises(ArtifactError, match="Received"):
        read(file_of(text, b""))


def test_a_manifest_that_expands_beyond_its_size():
    """Deflate makes a thousand zeros of one byte."""
    bomb = pack_stream_start(b" " * (64 << 20), 0)
    assert len(bomb) < 100_000
    data = skeleton_start(len(bomb), "3.15.1", "tensorflow") + bomb
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceededError, match="manifest"):
            read(data)
        said_less = bomb[:16] + (1000).to_bytes(4, "little") + bomb[20:]
        digest = sha256(said_less[8:28] + said_less[60:]).digest()
        said_less = said_less[:28] + digest + said_less[60:]
        start = skeleton_start(len(said_less), "3.15.1", "tensorflow")
        with pytest.raises(CorruptArtifactError, match="1000 bytes"):
            read(start + said_less)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_a_million_tensors_are_too_many(content):
    def change(manifest):
        manifest["tensors"] = [{}] * 1_000_001

    with pytest.raises(LimitExceededError, match="number of tensors"):
        read(edited(content, change))


# --- H5: bombs ----------------------------------------------------------------


def sample(codec):
    """A hundred bytes as the codec writes them, or nearly so."""
    array = np.tile(np.arange(25, dtype=np.int8), 4)
    try:
        return codecs.get(codec).encode(array)[:100]
    except SqueezeError:
        return bytes(range(100))


@pytest.mark.parametrize("codec", codecs.names())
def test_a_terabyte_from_a_hundred_bytes(codec):
    for data in (sample(codec), bytes(100), b"\xff" * 100):
        for shape, dtype in (([1 << 40], "int8"), ([1 << 20] * 2, "int8")):
            tracemalloc.start()
            try:
                with pytest.raises(LimitExceededError, match="decoded bytes"):
                    read(bomb(codec, data, shape, dtype))
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < 2 << 20


@pytest.mark.parametrize("codec", codecs.names())
def test_a_terabyte_though_the_limit_is_raised(codec):
    """Then it is the decoder that must see it, or the machine."""
    limits = Limits(max_decoded_bytes=1 << 62)
    # The list of its blocks, at least, is made as long as is declared.
    size = 1 << 36 if codec == "context_mixing" else 1 << 50
    for data in (sample(codec), bytes(100), b"\xff" * 100, b""):
        with pytest.raises(SqueezeError):
            read(bomb(codec, data, [size], "int8"), limits)


@pytest.mark.parametrize("codec", codecs.names())
def test_bytes_that_no_encoder_wrote(codec):
    drawn = random.Random(codec)
    coder = codecs.get(codec)
    for _ in range(5 * ROUNDS):
        data = bytearray(sample(codec))
        for _ in range(drawn.randrange(1, 4)):
            if data:
                data[drawn.randrange(len(data))] = drawn.randrange(256)
        try:
            out = coder.decode(bytes(data), (100,), "int8")
        except SqueezeError:
            continue
        assert (out.shape, out.dtype) == ((100,), np.int8)


def test_frames_of_other_tools_with_huge_windows():
    # zstd: a frame without its size, a window of 2 GiB; xz: a dictionary of
    # 4 GiB; both before a few bytes of content.
    zstd = bytes.fromhex("28b52ffd 00 a8 010000")
    xz = bytes.fromhex("fd377a585a000000ff12d941") + bytes(20)
    for codec, data in (("zstd", zstd), ("xz", xz)):
        tracemalloc.start()
        try:
            with pytest.raises(SqueezeError):
                read(bomb(codec, data, [1000], "int8"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16 << 20


# --- H8: mutations ------------------------------------------------------------

NASTY = [
    None,
    True,
    -1,
    0,
    1,
    255,
    1 << 31,
    (1 << 63) - 1,
    1 << 64,
    0.5,
    "",
    "raw",
    "codes",
    "float64",
    "\0",
    [],
    [0],
    [[]],
    {},
    {"id": "sparse"},
    {"id": "class_rans"},
]


def nodes(value, path=()):
    yield path
    items = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, child in items:
        yield from nodes(child, (*path, key))


def mutate(manifest, drawn):
    path = drawn.choice([path for path in nodes(manifest) if path])
    parent = manifest
    for key in path[:-1]:
        parent = parent[key]
    last, action = path[-1], drawn.randrange(3)
    if action == 0:
        parent[last] = drawn.choice(NASTY)
    elif action == 1:
        del parent[last]
    elif isinstance(parent[last], int):
        parent[last] += drawn.choice([-1, 1, 7, -parent[last]])
    else:
        parent[last] = [parent[last]]


@pytest.mark.parametrize("seed", range(5 * ROUNDS))
def test_mutated_manifests_with_digests_that_match(content, seed):
    drawn = random.Random(seed)
    for _ in range(40):
        manifest = json.loads(content[0])
        for _ in range(drawn.randrange(1, 3)):
            mutate(manifest, drawn)
        survives(file_of(json.dumps(manifest).encode(), content[1]))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_mutated_payloads_with_digests_that_match(path):
    opened = parse_source(BytesSource(path.read_bytes(), path.name))
    content = opened.manifest.to_json(), opened.payload
    drawn = random.Random(path.stem)
    for _ in range(10 * ROUNDS):
        payload = bytearray(content[1])
        for _ in range(drawn.randrange(1, 5)):
            payload[drawn.randrange(len(payload))] ^= 1 << drawn.randrange(8)
        manifest = json.loads(content[0])
        manifest["payload"]["sha256"] = sha256(payload).hexdigest()
        place = 0
        for record in manifest["tensors"]:
            stop = place + sum(part["bytes"] for part in record["parts"])
            record["crc32"] = zlib.crc32(payload[place:stop])
            place = stop
        survives(file_of(json.dumps(manifest).encode(), bytes(payload)))


@pytest.mark.parametrize("seed", range(3 * ROUNDS))
def test_mutated_files_with_checksums_of_hdf5_that_match(valid, seed):
    drawn = random.Random(seed)
    regions = regions_of_metadata(valid)
    for _ in range(40):
        data = bytearray(valid)
        for _ in range(drawn.randrange(1, 5)):
            start, stop = drawn.choice(regions)
            data[drawn.randrange(start, stop)] = drawn.randrange(256)
        survives(reseal(bytes(data), regions))


@pytest.mark.parametrize("seed", range(2 * ROUNDS))
def test_bytes_of_any_kind(valid, seed, tmp_path):
    drawn = random.Random(seed)
    for _ in range(30):
        keep = drawn.randrange(1300)
        data = valid[:keep] + drawn.randbytes(drawn.randrange(2000))
        survives(data)
    path = tmp_path / "a.h5"
    path.write_bytes(drawn.randbytes(3000))
    with pytest.raises(NotAnArtifactError):
        artifact.verify(path)


def survives(data):
    """Nothing but an error of ours, or tensors."""
    try:
        opened = parse_source(BytesSource(data, "a.h5"))
        describe(opened)
        check_payload(opened)
        decoded = opened.decode_all()
    except SqueezeError as error:
        assert "Received" in str(error)
        return
    for record in opened.tensors:
        assert decoded[record.name].shape == record.shape
        assert decoded[record.name].dtype.name == record.dtype


# --- H10: a file that changes while it is read --------------------------------


def two_files(tmp_path):
    paths = []
    for number in (1, 2):
        path = tmp_path / f"{number}.h5"
        values = np.full(50, number, "float32")
        artifact.write(
            str(path),
            [TensorInput.from_values("w", values)],
            MODEL,
            keras_version="3.15.1",
        )
        paths.append(path)
    return paths


@pytest.mark.parametrize("how", ["replaced", "overwritten"])
def test_what_was_hashed_is_what_is_parsed(tmp_path, monkeypatch, how):
    first, second = two_files(tmp_path)
    expected = sha256(first.read_bytes()).hexdigest()
    parse = reading.parse_skeleton

    def change_the_file_first(source):
        if how == "replaced":
            os.replace(second, first)
        else:
            first.write_bytes(second.read_bytes())
        return parse(source)

    monkeypatch.setattr(reading, "parse_skeleton", change_the_file_first)
    opened = artifact.read(first, access=Access(expected_sha256=expected))
    assert opened.decode("w")[0] == 1
    monkeypatch.undo()
    assert artifact.read(first).decode("w")[0] == 2
    with pytest.raises(ArtifactError, match=expected):
        artifact.read(first, access=Access(expected_sha256=expected))


def test_a_large_file_is_read_through_one_descriptor(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_squeeze.artifact.access.SMALL_FILE_BYTES", 0)
    first, second = two_files(tmp_path)
    with artifact.read(first) as opened:
        os.replace(second, first)
        assert opened.decode("w")[0] == 1
    with pytest.raises(ValueError, match="closed file"):
        opened.decode("w")


def test_a_large_file_that_is_overwritten_is_seen(tmp_path, monkeypatch):
    """Its tensors are held to the manifest that was read and checked."""
    monkeypatch.setattr("keras_squeeze.artifact.access.SMALL_FILE_BYTES", 0)
    first, second = two_files(tmp_path)
    with artifact.read(first) as opened:
        first.write_bytes(second.read_bytes())
        with pytest.raises(CorruptArtifactError, match="'w'"):
            opened.decode("w")


# --- files with holes ---------------------------------------------------------


def test_a_payload_larger_than_what_it_decodes_to():
    """A file of a terabyte may be a hole; stored bytes are memory too."""
    data = bomb("constant", bytes(5000), [1], "int8")
    with pytest.raises(LimitExceededError, match="payload bytes"):
        read(data, Limits(max_decoded_bytes=1000))
    with pytest.raises(CorruptArtifactError, match="bomb"):
        read(data)

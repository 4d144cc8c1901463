"""The manifest refuses what `to_json` would not have written."""

import json

import pytest

from keras_squeeze.artifact import Limits, Manifest, Part, TensorRecord
from keras_squeeze.errors import (
    ArtifactError,
    CorruptArtifactError,
    LimitExceededError,
    UnsupportedVersionError,
)


def manifest():
    part = Part("values", "float32", (2, 3), {"id": "raw"}, 24)
    coded = Part("codes", "int8", (4,), {"id": "rans", "lanes": 8}, 10)
    return Manifest(
        tensors=(
            TensorRecord("a/kernel", "float32", (2, 3), (part,), 7),
            TensorRecord(
                "b/codes",
                "uint8",
                (2,),
                (coded,),
                8,
                "packed",
                {"width": 4},
                nonzero=3,
                offset=24,
            ),
        ),
        payload_bytes=34,
        payload_sha256="00" * 32,
        model={"class_name": "Sequential", "name": "m", "config": None},
        generator="keras_squeeze 0.1.0",
    )


def edited(change):
    content = json.loads(manifest().to_json())
    change(content)
    return json.dumps(content).encode()


def test_round_trip():
    data = manifest().to_json()
    assert Manifest.from_json(data, Limits()) == manifest()
    assert Manifest.from_json(data, Limits()).to_json() == data


def test_unknown_keys_are_ignored_and_unknown_features_refused():
    data = edited(lambda content: content.update(note="later"))
    assert Manifest.from_json(data, Limits()) == manifest()
    data = edited(lambda content: content.update(requires=["delta"]))
    with pytest.raises(UnsupportedVersionError, match="delta"):
        Manifest.from_json(data, Limits())


def set_in_tensor(key, value):
    return lambda content: content["tensors"][0].update({key: value})


def set_in_part(key, value):
    return lambda content: content["tensors"][0]["parts"][0].update(
        {key: value}
    )


@pytest.mark.parametrize(
    "change",
    [
        set_in_tensor("name", 3),
        set_in_tensor("name", "b/codes"),
        set_in_tensor("shape", [-1, 3]),
        set_in_tensor("shape", [2.5]),
        set_in_tensor("shape", "23"),
        set_in_tensor("shape", [1 << 70]),
        set_in_tensor("dtype", "object"),
        set_in_tensor("dtype", "O"),
        set_in_tensor("dtype", 7),
        set_in_tensor("crc32", "7"),
        set_in_tensor("encoding", "pickle"),
        set_in_tensor("parts", None),
        set_in_part("bytes", -1),
        set_in_part("bytes", 25),
        set_in_part("bytes", True),
        set_in_part("codec", 5),
        lambda content: content.pop("payload"),
        lambda content: content.pop("tensors"),
        lambda content: content.update(model=[1]),
        lambda content: content["payload"].update(bytes=1 << 64),
    ],
)
def test_edited_manifests_are_refused(change):
    with pytest.raises(ArtifactError, match="Received"):
        Manifest.from_json(edited(change), Limits())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"3",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'{"tensors": ' + b"9" * 5000 + b"}",
    ],
)
def test_other_json_is_refused(data):
    with pytest.raises(CorruptArtifactError, match="Received"):
        Manifest.from_json(data, Limits())


def test_limits():
    data = manifest().to_json()
    for limits in (
        Limits(max_manifest_bytes=20),
        Limits(max_tensors=1),
        Limits(max_name_bytes=3),
        Limits(max_rank=1),
        Limits(max_depth=3),
    ):
        with pytest.raises(LimitExceededError, match="at most"):
            Manifest.from_json(data, limits)
    assert Limits().decoded_bytes(10) == 1 << 30
    assert Limits().decoded_bytes(1 << 40) == 16 << 30

"""What a reader of today makes of files of tomorrow."""

import hashlib
import json
import struct
import zlib

import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput
from keras_squeeze.artifact.container import skeleton_start
from keras_squeeze.errors import (
    ArtifactError,
    SqueezeError,
    UnsupportedVersionError,
)

MODEL = {"class_name": "Model", "name": "tensors", "config": None}
ARRAYS = {
    "codes": np.arange(60, dtype="int8").reshape(6, 10) % 7,
    "weights": np.linspace(-1, 1, 33, dtype="float32"),
}


def stream_of(manifest, payload, version=1, flags=0):
    """A stream as docs/format.md says."""
    text = json.dumps(manifest).encode()
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(text) + packer.flush()
    fields = struct.pack(
        "<HHIIQ", version, flags, len(packed), len(text), len(payload)
    )
    digest = hashlib.sha256(fields + packed).digest()
    return b"\x89KSQ\r\n\x1a\n" + fields + digest + packed + payload


@pytest.fixture
def future(tmp_path):
    """Writes the file that an edit of the manifest makes, says its path."""
    path = str(tmp_path / "a.h5")
    tensors = [TensorInput.from_values(n, a) for n, a in ARRAYS.items()]
    written = artifact.write(path, tensors, MODEL, keras_version="3.15.1")
    manifest, payload = written.manifest, written.payload

    def write(edit=lambda manifest: None, **header):
        content = json.loads(manifest.to_json())
        edit(content)
        stream = stream_of(content, payload, **header)
        start = skeleton_start(len(stream), "3.15.1", "tensorflow")
        with open(path, "wb") as file:
            file.write(start + stream)
        return path

    return write


def test_the_same_file_again(future):
    found = artifact.read(future()).decode_all()
    assert all((found[name] == a).all() for name, a in ARRAYS.items())


def test_a_new_version_names_itself(future):
    with pytest.raises(UnsupportedVersionError, match="version 2"):
        artifact.read(future(version=2))


def test_new_flags_are_refused(future):
    with pytest.raises(ArtifactError, match="flags"):
        artifact.read(future(flags=4))


def test_a_new_requirement_is_named(future):
    def require(manifest):
        manifest["requires"] = ["affine", "time_travel"]

    with pytest.raises(UnsupportedVersionError, match="time_travel"):
        artifact.read(future(require))


def test_optional_keys_everywhere_are_ignored(future):
    def add(manifest):
        manifest["note"] = {"deep": [1, {"x": None}]}
        manifest["model"]["author"] = "nobody"
        manifest["tensors"][0]["hint"] = "sparse"
        manifest["tensors"][0]["parts"][0]["speed"] = 3

    opened = artifact.read(future(add))
    found = opened.decode_all()
    assert all((found[name] == a).all() for name, a in ARRAYS.items())
    assert opened.manifest.model["author"] == "nobody"


@pytest.mark.parametrize(
    "codec", ["quantum", {"id": "quantum"}, {"id": "raw", "effort": 9}]
)
def test_an_unknown_codec_keeps_its_tensor_only(future, codec):
    def change(manifest):
        manifest["tensors"][1]["parts"][0]["codec"] = codec

    opened = artifact.read(future(change))
    assert (opened.decode("codes") == ARRAYS["codes"]).all()
    with pytest.raises(SqueezeError, match=r"quantum|effort"):
        opened.decode("weights")


def test_an_unknown_encoding_is_refused(future):
    def change(manifest):
        manifest["tensors"][1]["encoding"] = "holographic"

    with pytest.raises(ArtifactError, match="holographic"):
        artifact.read(future(change)).decode("weights")

"""All that a file says is shown, and nothing else is in it."""

import json

import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact.access import Access
from keras_squeeze.artifact.listing import contents
from keras_squeeze.artifact.stream import HEADER_BYTES
from keras_squeeze.errors import SignatureError

MODEL = {
    "class_name": "Sequential",
    "name": "m",
    "config": {"layers": [{"units": 3, "shape": [1, 2]}], "empty": {}},
}


@pytest.fixture
def path(tmp_path):
    values = np.linspace(-1, 1, 5).astype("float32")
    tensor = artifact.TensorInput.from_values("dense/kernel", values)
    path = str(tmp_path / "m.h5")
    artifact.write(path, [tensor], MODEL, keras_version="3.15.1")
    return path


def shown(path):
    return {
        (row["where"], row["key"]): row["value"] for row in contents(path).rows
    }


def test_every_value_of_the_manifest_is_shown(path):
    values = shown(path)
    for key, value in {
        "model.class_name": "Sequential",
        "model.name": "m",
        "model.config.layers[0].units": 3,
        "model.config.layers[0].shape": [1, 2],
        "model.config.empty": {},
        "tensors[0].name": "dense/kernel",
        "tensors[0].shape": [5],
    }.items():
        assert json.loads(values["manifest", key]) == value
    assert "keras_squeeze" in values["manifest", "generator"]


def test_every_attribute_is_shown(path):
    import h5py

    values = shown(path)
    found, count = [], 1
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append((f"/{name}", item)))
        found.append(("/", file))
        for name, item in found:
            count += len(item.attrs)
            for key, value in item.attrs.items():
                text = values[f"HDF5 {name}", key]
                given = value.tolist()
                given = given[0] if isinstance(given, list) and given else given
                assert text == (given.decode() if given else "")
            if isinstance(item, h5py.Dataset):
                assert values[f"HDF5 {name}", "bytes"] == item.size
    attributes = [key for key in values if key[0].startswith("HDF5")]
    assert len(attributes) == count


def test_what_is_not_shown_are_the_tensors(path, tmp_path):
    values = shown(path)
    size = len((tmp_path / "m.h5").read_bytes())
    stream = values[
        "HDF5 /model_weights/top_level_model_weights/stream", "bytes"
    ]
    payload = values["header", "payload bytes"]
    manifest = values["header", "stored manifest bytes"]
    assert stream == HEADER_BYTES + manifest + payload
    assert payload == json.loads(
        values["manifest", "tensors[0].parts[0].bytes"]
    )
    assert size - stream < 2000


def test_it_is_checked_as_any_reading_is(path):
    with pytest.raises(SignatureError):
        contents(path, Access(expected_sha256="00" * 32))

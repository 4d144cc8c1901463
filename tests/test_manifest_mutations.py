"""Manifests with one field changed, digests made right again."""

import copy
import json
import os

import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact.container import skeleton_start
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import (
    AbsMaxQuantizer,
    AffineQuantizer,
    KMeansQuantizer,
    NormalFloat4Quantizer,
)
from tests.test_future_files import MODEL, stream_of

ROUNDS = int(os.environ.get("KERAS_SQUEEZE_ROUNDS", "1"))
OTHERS = (
    *(None, True, False, 0, 1, -1, 2, 7, 255, 1 << 31, (1 << 63) - 1, 1 << 64),
    *(1.5, -0.0, 1e300, "", "0", "values", "quantized", "codebook", "packed"),
    *(
        "raw",
        "rans",
        "class_rans",
        "sparse",
        "float8",
        "float32",
        "bool",
        "nf4",
    ),
    *("\0", "../x", "a" * 1025, [], [0], [3, 1 << 40], [[]], {}, {"id": "raw"}),
    *({"id": "deflate", "level": 9}, {"": 0}, [1] * 33, [{}], "base", "scale"),
)


def places(value, path=()):
    """Where the fields of a JSON document are."""
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)
    for key, inside in items:
        yield (*path, key)
        yield from places(inside, (*path, key))


def changed(random, content):
    """The same document with a field changed, removed, copied or renamed."""
    out = copy.deepcopy(content)
    paths = list(places(out))
    *path, key = paths[int(random.integers(len(paths)))]
    inside = out
    for step in path:
        inside = inside[step]
    kind = int(random.integers(6))
    if kind == 0:
        del inside[key]
    elif kind == 1 and isinstance(inside, dict):
        inside[f"{key}_"] = inside.pop(key)
    elif kind == 2:
        *other, last = paths[int(random.integers(len(paths)))]
        value = content
        for step in (*other, last):
            value = value[step]
        inside[key] = copy.deepcopy(value)
    elif kind == 3 and type(inside[key]) is int:
        inside[key] += int(random.choice([-1, 1, 1 << 20]))
    else:
        inside[key] = OTHERS[int(random.integers(len(OTHERS)))]
    return out


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("manifest") / "a.h5")
    kernel = np.random.default_rng(0).normal(size=(20, 7)).astype("float32")
    quantizers = AbsMaxQuantizer(4), AffineQuantizer(3), KMeansQuantizer(3)
    tensors = [artifact.TensorInput.from_values("plain", kernel)]
    for i, quantizer in enumerate((*quantizers, NormalFloat4Quantizer())):
        coded = quantizer.encode(kernel)
        tensors.append(
            artifact.TensorInput.from_quantized(f"k{i}", "float32", coded)
        )
    packed = np.arange(16, dtype="uint8")
    tensors.append(artifact.TensorInput.from_packed("packed", packed, 2, 63))
    return artifact.write(path, tensors, MODEL, keras_version="3.15.1")


def test_only_our_errors_escape(original, tmp_path):
    content = json.loads(original.manifest.to_json())
    payload, random = original.payload, np.random.default_rng(11)
    path, outcomes = tmp_path / "a.h5", {"read": 0, "refused": 0}
    for _ in range(250 * ROUNDS):
        stream = stream_of(changed(random, content), payload)
        start = skeleton_start(len(stream), "3.15.1", "tensorflow")
        path.write_bytes(start + stream)
        try:
            artifact.read(path).decode_all()
            outcomes["read"] += 1
        except SqueezeError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 3

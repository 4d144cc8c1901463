"""Reads artifacts: stream, manifest, tensors, as docs/format.md says.

Written from that page and its appendices alone, as all of this folder; it
imports nothing of the package, so that the pages stand a test.
"""

import dataclasses
import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np

from tests.independent import encodings, increments, parts
from tests.independent.codecs import Data
from tests.independent.skeleton import stream

FEATURES = {"affine", "codebook", "base"}


@dataclasses.dataclass
class Tensor:
    """A record, parts by role, and the base's tensor it is coded against."""

    record: dict
    parts: dict
    array: np.ndarray
    reference: "Tensor | None"


@dataclasses.dataclass
class File:
    digest: str
    model: dict
    tensors: dict


def read(path, base=None):
    """Reads a file; `base` is the `File` that an increment is to."""
    data = stream(Path(path).read_bytes())
    head = struct.unpack_from("<8sHHIIQ32s", data)
    magic, version, flags, stored, decoded, size, digest = head
    assert (magic, version, flags) == (b"\x89KSQ\r\n\x1a\n", 1, 0)
    assert len(data) == 60 + stored + size
    text, payload = data[60 : 60 + stored], data[60 + stored :]
    assert hashlib.sha256(data[8:28] + text).digest() == digest
    text = zlib.decompress(text, -15)
    assert len(text) == decoded
    manifest = json.loads(text)
    assert set(manifest["requires"]) <= FEATURES
    assert manifest["payload"]["bytes"] == size
    assert hashlib.sha256(payload).hexdigest() == manifest["payload"]["sha256"]
    link, old = manifest["base"] if base else {}, base.tensors if base else {}
    assert ("base" in manifest["requires"]) == bool(link)
    assert not base or base.digest == link["digest"]
    rest, own = Data(payload), {}
    for record in manifest["tensors"]:
        stored = rest.read(sum(part["bytes"] for part in record["parts"]))
        assert zlib.crc32(stored) == record["crc32"]
        reference = old.get(record.get("base", record["name"]))
        if reference and reference.record["shape"] != record["shape"]:
            reference = None
        own[record["name"]] = tensor(record, Data(stored), reference)
    own = increments.whole(own, old, link.get("unchanged", []))
    kept = {key: base.model[key] for key in link.get("model", [])}
    return File(digest.hex(), {**manifest["model"], **kept}, own)


def tensor(record, data, reference):
    given = [(part, data.read(part["bytes"])) for part in record["parts"]]
    # Codes may depend on the other parts.
    given.sort(key=lambda pair: pair[0].get("role") == "codes")
    found = {}
    for part, stored in given:
        part, stored = record | part, Data(stored)
        codec, role = parts.settings(part["codec"]), part.get("role", "values")
        form = parts.dtype_of(part["dtype"]), tuple(part["shape"])
        if codec["id"] in increments.CODECS:
            about = role, record, found, reference
            found[role] = increments.part(stored, codec, form, about)
        else:
            found[role] = parts.decode(stored, codec, *form)
        assert not stored.read()
    return Tensor(record, found, encodings.variable(record, found), reference)

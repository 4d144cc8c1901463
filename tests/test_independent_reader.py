"""docs/format.md and its appendices say all that reading a file takes.

The readers in `tests/independent`, each of less than a hundred lines, were
written from these pages alone. They decode every tensor of every golden file,
the golden streams of every codec, and streams of kinds that these lack.
"""

import functools
import hashlib
import json
import re
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest

from keras_squeeze import codecs
from keras_squeeze.artifact import encryption_header
from keras_squeeze.artifact.encryption import encrypt_file
from keras_squeeze.codecs import ClassRans, ContextMixing, float_residual
from keras_squeeze.codecs.trellis import Trellis
from tests.class_rans_samples import damaged_streams, int8, kernel
from tests.class_rans_samples import trellis_codes as follow
from tests.independent import float_residual as independent_residual
from tests.independent import parts, reader, skeleton
from tests.independent.codecs import Data
from tests.test_golden_codecs import CASES
from tests.test_golden_codecs import FOLDER as STREAMS

FOLDER = Path(__file__).parent
DOCS = FOLDER.parent / "docs"
READERS = sorted((FOLDER / "independent").glob("[a-z]*.py"))
PAGES = sorted(DOCS.glob("*format*.md"))
FILES = sorted(FOLDER.glob("golden/format-*/*.h5"))
INCREMENTS = FOLDER / "golden" / "increments-format-1"
CHAIN = ("base.h5", "step_1.h5", "step_2.h5")
FOREIGN = {
    *("bisect", "bz2", "dataclasses", "decimal", "functools", "hashlib"),
    *("hmac", "io", "json", "lzma", "math", "pathlib", "struct"),
    *("unicodedata", "zlib", "cramjam", "cryptography", "ml_dtypes", "numpy"),
}
# Formats of others, which libraries decode here too.
CRAMJAM = {"zstd", "brotli", "lz4", "snappy"}


def named(path):
    return f"{path.parent.name}-{path.stem}"


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


@functools.cache
def chain():
    found = [reader.read(INCREMENTS / CHAIN[0])]
    for name in CHAIN[1:]:
        found.append(reader.read(INCREMENTS / name, found[-1]))
    return dict(zip(CHAIN, found, strict=True))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_golden_files_decode_to_the_last_tensor(path):
    expected = json.loads((path.parent / "expected.json").read_text())
    found = reader.read(path).tensors
    assert {n: digest(t.array) for n, t in found.items()} == expected[path.name]


@pytest.mark.parametrize("name", CHAIN)
def test_golden_increments_decode_to_the_last_tensor(name):
    expected = json.loads((INCREMENTS / "expected.json").read_text())[name]
    found = chain()[name].tensors
    assert list(found) and {n: digest(t.array) for n, t in found.items()} == {
        name: about["sha256"] for name, about in expected.items()
    }


def test_increments_refuse_another_base():
    with pytest.raises(AssertionError):
        reader.read(INCREMENTS / CHAIN[2], chain()[CHAIN[0]])


def check(codec, data, array):
    stored = Data(data)
    out = parts.decode(stored, codec, array.dtype, array.shape)
    assert not stored.read()
    assert (out.dtype, out.shape) == (array.dtype, array.shape)
    assert out.tobytes() == array.tobytes()


@pytest.mark.parametrize("name", CASES)
def test_golden_streams_decode(name):
    codec = name.split("-")[0]
    if codec in CRAMJAM:
        pytest.importorskip("cramjam")
    check(codec, (STREAMS / f"{name}.bin").read_bytes(), CASES[name])


def test_all_codecs_are_read():
    known = {name.split("-")[0] for name in CASES}
    assert known >= {type(codecs.get(name)).id for name in codecs.names()}


def test_class_rans_streams_of_every_kind_decode(rng):
    samples = damaged_streams()
    tall = rng.laplace(0, 3, (4100, 1)).round().astype("int8")
    trellis = Trellis(16, "matrix_first_axis", 4)
    steps = follow(rng.laplace(0, 1.5, (300, 33)).round().astype("i1"), trellis)
    samples += [
        (ClassRans().encode(tall), tall),
        (ClassRans(trellis=trellis).encode(steps), steps),
    ]
    for data, array in samples:
        check("class_rans", data, array)
    flags = [data[0] for data, _ in samples]
    # Scale classes, neighbour classes, a trellis, an escape; a flat view.
    assert all(any(f >> bit & 1 for f in flags) for bit in (3, 4, 5, 6))
    assert any(f & 7 == 0 for f in flags)


def pruned(rng):
    some = rng.random((30, 20)) < 0.3
    return np.where(some, rng.laplace(0, 20, (30, 20)), 0).round().clip(-99, 99)


MIXED = {
    "pruned": lambda rng: pruned(rng).astype("int16"),
    "centred": lambda rng: (pruned(rng) // 9 + 500).astype("int32"),
    "kernel": lambda rng: int8(kernel((3, 5, 4, 9), 6)),
    "transposed": lambda rng: int8(kernel((2, 2, 9, 12), 30)).swapaxes(2, 3),
    "flags": lambda rng: rng.random((31, 12)) < 0.2,
    "large": lambda rng: (pruned(rng)[:9] * 10_000_000).astype("int64"),
    "vector": lambda rng: rng.laplace(0, 9, 200).round().astype("int8"),
}


@pytest.mark.parametrize("name", MIXED)
def test_context_mixing_streams_of_every_kind_decode(name, rng):
    array = np.ascontiguousarray(MIXED[name](rng))
    check("context_mixing", ContextMixing().encode(array), array)


def floats(shape):
    waves = [
        np.sin(0.05 * (axis + 1) * i)
        for axis, i in enumerate(np.indices(shape))
    ]
    return sum(waves)


FLOATS = {
    "between": lambda rng: floats((40, 33)).astype("float32"),
    "between-complex": lambda rng: floats((300,)).astype("complex64"),
    "between-palette": lambda rng: (floats((400,)) * 50).round().astype("f4"),
    "rows": lambda rng: (
        rng.normal(size=(40, 30)).astype("f4")
        * np.exp2(np.arange(40) % 7 * 4).astype("f4")[:, None]
    ),
    "multiples": lambda rng: rng.integers(-9, 9, 500) * np.float32(0.0371),
    "pruned": lambda rng: pruned(rng).astype("float16"),
    "float8": lambda rng: rng.normal(size=300).astype(ml_dtypes.float8_e5m2),
    "scalar": lambda rng: np.array(0.1 + 2j),
}


@pytest.mark.parametrize("name", FLOATS)
def test_float_fields_streams_of_every_kind_decode(name, rng):
    array = FLOATS[name](rng)
    check("float_fields", codecs.get("float_fields").encode(array), array)


@pytest.mark.parametrize("case", range(12))
def test_float_residual_streams_of_every_kind_decode(case):
    rng = np.random.default_rng(case)
    dtype = np.dtype(
        ("f4", "f2", "f8", "c8", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn)[
            case % 6
        ]
    )
    shape = ((40, 30), (200,), (3, 3, 5, 8), ())[case % 4]
    base = np.asarray(rng.normal(size=shape))
    base = np.where(rng.random(shape) < 0.2 * (case % 3), 0, base)
    size = (1e-6, 1e-2, 1, 0)[case // 3]
    step = (
        size
        * rng.normal(size=shape)
        * np.exp2(rng.integers(9, size=shape[-1:]))
    )
    step = np.where(rng.random(shape) < 0.2, -base, step)
    array, base = (np.asarray(x).astype(dtype) for x in (base + step, base))
    data = Data(float_residual.encode(array, base))
    out = independent_residual.decode(data, dtype, base)
    assert out.tobytes() == array.tobytes() and not data.read()


@pytest.mark.parametrize("key", [bytes(range(32)), "cafe\u0301"], ids=repr)
@pytest.mark.parametrize("size", [0, 100, 4096, 9000])
def test_envelopes_open(key, size, tmp_path, monkeypatch):
    pytest.importorskip("cryptography")
    from tests.independent.envelope import open_envelope

    monkeypatch.setattr(encryption_header, "LOG2_CHUNK_BYTES", 12)
    monkeypatch.setattr(encryption_header, "_LOG2_COST", 14)
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    plain.write_bytes(bytes(i * i % 251 for i in range(size)))
    encrypt_file(plain, sealed, key)
    assert open_envelope(sealed.read_bytes(), key) == plain.read_bytes()


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.stem)
def test_readers_are_short_and_import_nothing_of_ours(path):
    text = path.read_text()
    assert len(text.splitlines()) < 100
    used = re.findall(r"^\s*(?:from|import) (\S+)", text, re.M)
    others = {name for name in used if not name.startswith("tests.independent")}
    assert {name.split(".")[0] for name in others} <= FOREIGN


def test_the_specification_is_one_page():
    lines = (DOCS / "format.md").read_text().splitlines()
    assert len(lines) <= 130
    assert all(len(x) <= 92 for x in lines if not x.startswith("|"))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_the_stream_is_found_without_a_library(path):
    text = (DOCS / "skeleton_format.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names = {}
    exec(code, names)
    data = path.read_bytes()
    with h5py.File(path) as file:
        top = file["model_weights/top_level_model_weights"]
        stream = top["stream"][()].tobytes()
    assert names["stream_of"](data) == skeleton.stream(data) == stream


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_the_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in links:
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
        assert not anchor or anchor in map(slug, headings), link


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")

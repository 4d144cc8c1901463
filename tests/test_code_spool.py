import dataclasses
import os

import numpy as np
import pytest

from keras_squeeze import quantizers
from keras_squeeze.artifact import code_spool
from keras_squeeze.artifact.code_spool import SpoolFolder
from keras_squeeze.errors import ArtifactError
from keras_squeeze.quantizers.allocation_measure import energy


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    monkeypatch.setattr(code_spool, "MEMORY_BYTES", 3000)


def tensors(count):
    rng = np.random.default_rng(0)
    quantizer = quantizers.get({"id": "absmax", "bits": 8})
    made = [rng.standard_normal((40, 30), "float32") for _ in range(count)]
    return {f"t{i}": quantizer.encode(a, -1) for i, a in enumerate(made)}


def files(folder):
    return [
        os.path.join(where, name)
        for where, _, names in os.walk(folder)
        for name in names
        if name.endswith(".codes")
    ]


def same(first, second):
    for field in dataclasses.fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            assert (one == other).all()
        else:
            assert one == other


@pytest.mark.parametrize("encrypted", [False, True])
def test_codes_beyond_memory_wait_in_a_folder(tmp_path, encrypted):
    if encrypted:
        pytest.importorskip("cryptography")
    made = tensors(5)
    with SpoolFolder(str(tmp_path / "m.h5"), encrypted) as folder:
        spool = folder.spool()
        spool.update(made)
        paths = files(tmp_path)
        assert len(paths) == 3
        for path in paths:
            with open(path, "rb") as file:
                stored = file.read()
            plain = any(t.codes.tobytes() in stored for t in made.values())
            assert plain != encrypted
        assert list(spool) == list(made)
        for name, tensor in made.items():
            same(tensor, spool[name])
        spool.clear()
        assert not files(tmp_path)
    assert not os.listdir(tmp_path)


def test_small_models_leave_the_disk_alone(tmp_path):
    with SpoolFolder(str(tmp_path / "m.h5")) as folder:
        folder.spool().update(tensors(2))
        assert not os.listdir(tmp_path)


def test_no_room_for_the_codes_is_an_error_of_ours(tmp_path):
    with SpoolFolder(str(tmp_path / "none" / "m.h5")) as folder:
        spool = folder.spool()
        with pytest.raises(ArtifactError, match="Received"):
            spool.update(tensors(5))


@pytest.mark.parametrize("wanted", [{"snr_db": 17.0}, {"max_bytes": 1400}])
def test_an_allocation_keeps_the_codes_of_its_best_attempt_only(wanted):
    rng = np.random.default_rng(1)
    weights = {f"t{i}": rng.standard_normal((30, 20)) for i in range(3)}
    stores = []

    def store():
        stores.append({})
        return stores[-1]

    found = quantizers.allocate(weights, store=store, **wanted)
    plain = quantizers.allocate(weights, **wanted)
    kept = [made for made in stores if made]
    assert len(stores) > 1
    assert found.tensors in kept
    # Where a ratio is asked for, the next better one is kept, too.
    assert len(kept) <= (2 if "snr_db" in wanted else 1)
    for name, tensor in plain.tensors.items():
        same(tensor, found.tensors[name])


@pytest.mark.parametrize("order", ["C", "F"])
def test_squares_are_added_up_as_numpy_adds_them(order):
    rng = np.random.default_rng(2)
    values = rng.standard_normal((1009, 777), "float32").copy(order)
    importance = rng.random(values.shape).copy(order)
    squares = np.square(values, dtype=np.float64)
    assert energy(values) == float(squares.sum())
    assert energy(values, importance) == float((squares * importance).sum())

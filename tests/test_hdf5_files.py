import io
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest

from keras_squeeze.bridges import hdf5_files
from keras_squeeze.bridges.hdf5_files import read_arrays
from keras_squeeze.errors import (
    CorruptArtifactError,
    LimitExceededError,
    NotAnArtifactError,
    UnsafeArtifactError,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    import keras

    folder = tmp_path_factory.mktemp("saved")
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, dtype="bfloat16", name="first"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, seed=1, name="drop"),
            keras.layers.Dense(3, name="last"),
        ]
    )
    model.compile("adam", keras.losses.MeanSquaredError())
    model.fit(np.ones((4, 6)), np.ones((4, 3)), verbose=0)
    for name in ("m.keras", "m.h5", "m.weights.h5"):
        save = model.save_weights if "weights" in name else model.save
        save(folder / name)
    return model, folder


def bits(array):
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5"])
def test_every_keras_file_gives_all_weights_bit_for_bit(saved, name):
    model, folder = saved
    arrays = read_arrays(folder / name).values()
    found = sorted((str(a.dtype), a.shape, bits(a)) for a in arrays)
    values = [np.asarray(v) for v in model.weights]
    assert found == sorted((str(v.dtype), v.shape, bits(v)) for v in values)


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5"])
def test_bfloat16_is_read_as_bfloat16(saved, name):
    arrays = read_arrays(saved[1] / name)
    halves = {a.shape for a in arrays.values() if a.dtype == ml_dtypes.bfloat16}
    assert halves == {(6, 5), (5,)}


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5"])
def test_optimizer_state_is_left_out(saved, name):
    arrays = read_arrays(saved[1] / name)
    assert not [key for key in arrays if "optimizer" in key or "adam" in key]


def test_artifact_gives_its_tensors(saved, tmp_path):
    import keras_squeeze as ks

    model, _ = saved
    path = tmp_path / "m.squeeze.h5"
    ks.export(model, path)
    found = sorted(bits(a) for a in read_arrays(path).values())
    assert found == sorted(bits(np.asarray(v)) for v in named(model))


def named(model):
    from keras_squeeze.surgery.layer_tree import named_variables

    return named_variables(model).values()


def test_gzipped_datasets_are_read(tmp_path):
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        group.create_dataset("0", data=np.arange(9.0), compression="gzip")
    assert read_arrays(path)["layers/dense/vars/0"].tolist() == list(range(9))


def test_legacy_weights_file_of_tf_keras(tmp_path):
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file["dense/dense/kernel:0"] = np.ones((2, 3), "float32")
        file["optimizer_weights/m"] = np.ones(3)
    assert list(read_arrays(path)) == ["dense/dense/kernel:0"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", NotAnArtifactError),
        (b"GIF89a and more", NotAnArtifactError),
        (b"PK\x03\x04 not an archive", CorruptArtifactError),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), CorruptArtifactError),
    ],
)
def test_foreign_or_damaged_file(tmp_path, content, error):
    path = tmp_path / "m.h5"
    path.write_bytes(content)
    with pytest.raises(error, match=r"^Expected .* Received: ") as caught:
        read_arrays(path)
    assert "m.h5" in str(caught.value)


def test_truncated_files_are_errors(saved, tmp_path):
    for name in ("m.keras", "m.h5", "m.weights.h5"):
        content = (saved[1] / name).read_bytes()
        path = tmp_path / name
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(CorruptArtifactError):
            read_arrays(path)


def test_foreign_hdf5_names_what_it_holds(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["temperatures"] = np.ones(3)
    with pytest.raises(NotAnArtifactError, match="temperatures"):
        read_arrays(path)


def test_archive_without_weights(tmp_path):
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(NotAnArtifactError, match=r"readme\.txt"):
        read_arrays(path)


def test_damaged_archive_member(saved, tmp_path):
    content = bytearray((saved[1] / "m.keras").read_bytes())
    content[content.index(b"\x89HDF\r\n\x1a\n") + 3000] ^= 1
    path = tmp_path / "m.keras"
    path.write_bytes(content)
    with pytest.raises(CorruptArtifactError, match="CRC"):
        read_arrays(path)


def external_link(group, outside):
    group["0"] = h5py.ExternalLink(str(outside), "/secret")


def soft_link(group, outside):
    group["0"] = h5py.SoftLink("/layers")


def external_storage(group, outside):
    size = outside.stat().st_size
    group.create_dataset(
        "0", (size,), "uint8", external=[(str(outside), 0, size)]
    )


def virtual_dataset(group, outside):
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(outside), "secret", shape=(4,))
    group.create_virtual_dataset("0", layout)


def group_cycle(group, outside):
    group["0"] = group.file["layers"]


def text(group, outside):
    group["0"] = "text"


def references(group, outside):
    group.create_dataset("0", data=group.ref, dtype=h5py.ref_dtype)


def empty(group, outside):
    group["0"] = h5py.Empty("f4")


@pytest.mark.parametrize(
    "trick",
    [
        external_link,
        soft_link,
        external_storage,
        virtual_dataset,
        group_cycle,
        text,
        references,
        empty,
    ],
)
@pytest.mark.parametrize("archived", [False, True])
def test_hostile_hdf5_is_refused(tmp_path, trick, archived):
    outside = tmp_path / "secret.h5"
    with h5py.File(outside, "w") as file:
        file["secret"] = np.arange(4, dtype="f4")
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        trick(file.create_group("layers/dense/vars"), outside)
    path = tmp_path / ("m.keras" if archived else "m.weights.h5")
    if archived:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model.weights.h5", memory.getvalue())
    else:
        path.write_bytes(memory.getvalue())
    with pytest.raises(UnsafeArtifactError, match="layers"):
        read_arrays(path)


def test_link_at_the_root_is_refused(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["model_weights"] = h5py.ExternalLink("other.h5", "/")
    with pytest.raises(UnsafeArtifactError, match="ExternalLink"):
        read_arrays(path)


def test_group_of_weights_that_is_a_dataset(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["model_weights"] = np.ones(3)
    with pytest.raises(NotAnArtifactError, match="model_weights"):
        read_arrays(path)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}])
def test_declared_size_is_bounded_before_reading(tmp_path, options):
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        for index in range(3):
            file.create_dataset(
                f"layers/dense/vars/{index}", (2**28,), "float32", **options
            )
    with pytest.raises(LimitExceededError, match="declared"):
        read_arrays(path)


def test_zip_member_that_expands_absurdly(tmp_path):
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(70 * 2**20))
    with pytest.raises(LimitExceededError, match="declared"):
        read_arrays(path)


def test_deep_and_crowded_files_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_group("layers" + "/a" * 70)
    with pytest.raises(UnsafeArtifactError, match="deep"):
        read_arrays(path)

    monkeypatch.setattr(hdf5_files, "MAX_OBJECTS", 10)
    with h5py.File(path, "w") as file:
        for index in range(20):
            file[f"layers/a{index}/vars/0"] = np.ones(1)
    with pytest.raises(UnsafeArtifactError, match="objects"):
        read_arrays(path)


def test_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "absent.h5")

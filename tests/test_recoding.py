import hashlib

import numpy as np
import pytest

from keras_squeeze import artifact, native
from keras_squeeze.artifact import TensorInput
from keras_squeeze.cli import main
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.errors import ArtifactExistsError, CorruptArtifactError
from keras_squeeze.quantizers import AbsMaxQuantizer, TrellisQuantizer
from tests.test_profiles import correlated_kernel

PROFILES = ("auto", "fast", "small")


def tensors():
    kernel = correlated_kernel()
    uniform = AbsMaxQuantizer(bits=4).encode(kernel, axis=3)
    trellis = TrellisQuantizer(states=8, bits=4).encode(kernel)
    return [
        TensorInput.from_quantized("uniform", "float32", uniform),
        TensorInput.from_quantized("trellis", "float32", trellis),
        TensorInput.from_packed("packed", np.arange(60, dtype="uint8"), 4, 119),
        TensorInput.from_values("bias", np.linspace(0, 1, 48, dtype="float32")),
    ]


def write(path, profile="auto"):
    model = {"class_name": "Test", "name": "m", "config": None}
    return artifact.write(
        str(path),
        tensors(),
        model,
        keras_version="3.15.1",
        backend="jax",
        profile=profile,
    )


def bits_of(path):
    decoded = artifact.read(path).decode_all()
    return {name: (a.dtype.name, a.tobytes()) for name, a in decoded.items()}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("written", ["fast", "small"])
def test_recoding_changes_the_codecs_and_nothing_else(
    tmp_path, written, profile
):
    source, target = tmp_path / "a.h5", tmp_path / "b.h5"
    write(source, written)
    report = artifact.recode(source, target, profile)
    assert bits_of(source) == bits_of(target)
    before, after = artifact.read(source), artifact.read(target)
    assert after.manifest.model == before.manifest.model
    assert (after.keras_version, after.backend) == ("3.15.1", "jax")
    assert report.totals["bytes_before"] == source.stat().st_size
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert (old.encoding, old.parameters) == (new.encoding, new.parameters)


@pytest.mark.parametrize("profile", PROFILES)
def test_recoding_gives_the_file_that_export_would_have_written(
    tmp_path, profile
):
    write(tmp_path / "fast.h5", "fast")
    write(tmp_path / "direct.h5", profile)
    artifact.recode(tmp_path / "fast.h5", tmp_path / "recoded.h5", profile)
    assert digest(tmp_path / "recoded.h5") == digest(tmp_path / "direct.h5")


def test_there_and_back_again(tmp_path):
    write(tmp_path / "a.h5", "fast")
    artifact.recode(tmp_path / "a.h5", tmp_path / "b.h5", "small")
    artifact.recode(tmp_path / "b.h5", tmp_path / "c.h5", "fast")
    assert digest(tmp_path / "a.h5") == digest(tmp_path / "c.h5")


@pytest.mark.skipif(not native.available(), reason="needs compiled kernels")
def test_small_is_smaller(tmp_path):
    write(tmp_path / "a.h5", "fast")
    report = artifact.recode(tmp_path / "a.h5", tmp_path / "b.h5", "small")
    assert report.totals["file_bytes"] < 0.97 * report.totals["bytes_before"]


def test_a_file_may_be_recoded_in_place(tmp_path):
    path = tmp_path / "a.h5"
    write(path, "fast")
    before = bits_of(path)
    artifact.recode(path, path, "small")
    assert bits_of(path) == before


def test_the_trellis_is_remembered(tmp_path):
    write(tmp_path / "a.h5", "fast")
    artifact.recode(tmp_path / "a.h5", tmp_path / "b.h5", "small")
    record = artifact.read_manifest(tmp_path / "b.h5").tensors[1]
    assert Trellis(**record.parameters["trellis"]).states == 8


def test_damage_and_existing_targets_are_refused(tmp_path):
    source, target = tmp_path / "a.h5", tmp_path / "b.h5"
    write(source, "fast")
    target.write_bytes(b"mine")
    with pytest.raises(ArtifactExistsError):
        artifact.recode(source, target, overwrite=False)
    content = bytearray(source.read_bytes())
    content[-100] ^= 4
    source.write_bytes(content)
    with pytest.raises(CorruptArtifactError):
        artifact.recode(source, target)
    assert target.read_bytes() == b"mine"


def test_the_command_recodes(tmp_path, capsys):
    write(tmp_path / "a.h5", "fast")
    names = [str(tmp_path / name) for name in ("a.h5", "b.h5")]
    assert main(["recode", *names, "--profile", "small", "--quiet"]) == 0
    assert bits_of(names[0]) == bits_of(names[1])
    assert main(["recode", *names, "--no-overwrite"]) == 1
    assert "overwrite=True" in capsys.readouterr().err
    assert main(["recode", *names, "--profile", "tiny"]) == 2

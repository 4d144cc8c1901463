import ctypes
import os
import pkgutil
import shutil
import subprocess
import sys

import pytest

from keras_squeeze import native
from keras_squeeze.native import building

needs_compiler = pytest.mark.skipif(
    not list(building.compilers()), reason="no C compiler"
)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder of sources to compile, with one good file."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "seven.c").write_text(
        "int ks_seven(void);\nint ks_seven(void) { return 7; }\n"
        "int ks_interface_version(void);\n"
        "int ks_interface_version(void) { return VERSION; }\n".replace(
            "VERSION", str(native.INTERFACE_VERSION)
        )
    )
    monkeypatch.setattr(building, "_SOURCE", folder)
    return folder


def native_in_child(code, **environment):
    child = subprocess.run(
        [sys.executable, "-c", f"from keras_squeeze import native; {code}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


@needs_compiler
def test_the_sources_compile_without_a_warning(tmp_path, capfd):
    if not any(building._SOURCE.glob("*.c")):
        pytest.skip("no sources in this checkout")
    target = tmp_path / "kernels.so"
    flags = ("-Wall", "-Werror", "-O1")
    assert building.build(target, flags), capfd.readouterr().err
    assert isinstance(ctypes.CDLL(str(target)), ctypes.CDLL)


@needs_compiler
def test_the_built_library_is_what_the_loader_finds(source, tmp_path):
    target = tmp_path / "kernels.so"
    assert building.build(target)
    found = native_in_child(
        "import ctypes; print(native.function("
        "'ks_seven', ctypes.c_int, ())(), native.available(),"
        "native.function('ks_eight', ctypes.c_int, ()))",
        KERAS_SQUEEZE_NATIVE=str(target),
    )
    assert found == "7 True None"


@needs_compiler
@pytest.mark.parametrize("version", [native.INTERFACE_VERSION + 1, None])
def test_a_library_of_another_interface_is_not_called(
    source, tmp_path, version
):
    text = (source / "seven.c").read_text()
    own = f"return {native.INTERFACE_VERSION};"
    assert own in text
    other = text.replace(own, f"return {version};") if version else ""
    (source / "seven.c").write_text(other or "int ks_seven;\n")
    target = tmp_path / "kernels.so"
    assert building.build(target)
    found = native_in_child(
        "print(native.available())", KERAS_SQUEEZE_NATIVE=str(target)
    )
    assert found == "False"


@pytest.mark.parametrize("setting", ["0", "/nowhere/kernels.so"])
def test_without_a_library_there_are_no_kernels(setting):
    code = "print(native.available(), native.function('ks', None, ()))"
    found = native_in_child(code, KERAS_SQUEEZE_NATIVE=setting)
    assert found == "False None"


def test_a_file_that_is_no_library_is_ignored(tmp_path):
    path = tmp_path / "kernels.so"
    path.write_bytes(b"GIF89a" * 100)
    found = native_in_child(
        "print(native.available())", KERAS_SQUEEZE_NATIVE=str(path)
    )
    assert found == "False"


def test_a_compiler_that_fails_leaves_the_old_library(
    source, tmp_path, monkeypatch
):
    target = tmp_path / "kernels.so"
    target.write_bytes(b"old")
    monkeypatch.setenv("CC", shutil.which("false") or "false")
    assert not building.build(target)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert not building.build(target)
    assert target.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {
        "source",
        "kernels.so",
    }


@needs_compiler
def test_a_broken_source_leaves_the_old_library(source, tmp_path, capfd):
    target = tmp_path / "kernels.so"
    target.write_bytes(b"old")
    (source / "broken.c").write_text("int ks_broken(void) { return }\n")
    assert not building.build(target)
    assert target.read_bytes() == b"old"
    assert "broken.c" in capfd.readouterr().err


@needs_compiler
def test_a_folder_that_cannot_be_written_is_no_error(source, tmp_path):
    assert not building.build(tmp_path / "absent" / "kernels.so")


def test_no_compiler_and_no_source_are_no_error(source, tmp_path, monkeypatch):
    monkeypatch.setattr(building.shutil, "which", lambda command: None)
    assert not building.build(tmp_path / "kernels.so")
    monkeypatch.undo()
    monkeypatch.setattr(building, "_SOURCE", tmp_path / "absent")
    assert not building.build(tmp_path / "kernels.so")


def test_only_the_chosen_compiler_is_tried(monkeypatch):
    monkeypatch.setenv("CC", f"{sys.executable} -x")
    assert list(building.compilers()) == [[sys.executable, "-x"]]


def test_the_library_lies_beside_the_loader():
    assert native.LIBRARY_PATH.parent.name == "native"
    assert native.LIBRARY_PATH.name.startswith("_kernels.native.")


def test_the_library_is_not_taken_for_a_module():
    found = {m.name for m in pkgutil.iter_modules(native.__path__)}
    assert found == {"building"}

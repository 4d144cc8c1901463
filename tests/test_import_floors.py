"""The house has floors, and imports point downwards only."""

import ast
import pathlib
import subprocess
import sys

import pytest

import keras_squeeze

PACKAGE = pathlib.Path(keras_squeeze.__file__).parent

NATIVE, NUMPY, KERAS, WORKFLOW = range(4)
FLOORS = {
    "native": NATIVE,
    "artifact": NUMPY,
    "bridges": NUMPY,
    "codecs": NUMPY,
    "errors": NUMPY,
    "low_rank": NUMPY,
    "pruning": NUMPY,
    "quantizers": NUMPY,
    "registry": NUMPY,
    "report": NUMPY,
    "schedules": NUMPY,
    "testing": NUMPY,
    "calibration": KERAS,
    "callbacks": KERAS,
    "constraints": KERAS,
    "factorizing": KERAS,
    "layers": KERAS,
    "masking": KERAS,
    "model_summary": KERAS,
    "rate": KERAS,
    "recovery": KERAS,
    "regularizers": KERAS,
    "saving": KERAS,
    "shrinking": KERAS,
    "surgery": KERAS,
    "training_quantization": KERAS,
    "cli": WORKFLOW,
    "__main__": WORKFLOW,
}
HEAVY = {"keras", "tensorflow", "tf_keras", "jax", "torch"}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            yield pytest.param(path, id="/".join(parts))


def floor_of(path):
    return FLOORS[path.relative_to(PACKAGE).with_suffix("").parts[0]]


def imported(path):
    """Dotted names of all imports of a file, wherever they stand in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "keras_squeeze":
                yield from (f"keras_squeeze.{a.name}" for a in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", list(modules()))
def test_imports_point_downwards_only(path):
    floor = floor_of(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "keras_squeeze" and len(parts) > 1:
            below = FLOORS.get(parts[1], NUMPY)
            assert below <= floor, f"{path} imports {name} of a floor above"


@pytest.mark.parametrize("path", list(modules()))
def test_numpy_floor_imports_no_framework(path):
    if floor_of(path) == NUMPY:
        assert not {name.split(".")[0] for name in imported(path)} & HEAVY


def test_h5py_is_opened_in_two_places_only():
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "h5py" in {name.split(".")[0] for name in imported(path)}
    }
    assert users <= {"artifact/container.py", "bridges/hdf5_files.py"}


@pytest.mark.parametrize(
    "statement",
    [
        "import keras_squeeze",
        "import keras_squeeze as ks; dir(ks); ks.SqueezeError",
        "import keras_squeeze as ks; ks.artifact; ks.inspect; ks.verify",
        "import keras_squeeze as ks; ks.codecs; ks.quantizers; ks.pruning",
        "import keras_squeeze as ks; ks.schedules; ks.testing",
        "import keras_squeeze.bridges.hdf5_files",
        "import keras_squeeze.cli; keras_squeeze.cli.main(['--version'])",
    ],
)
def test_import_in_a_child_process_brings_no_framework(statement):
    check = f"import sys; print(sorted({HEAVY} & set(sys.modules)))"
    child = subprocess.run(
        [sys.executable, "-c", f"{statement}; {check}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines()[-1] == "[]"


def test_keras_registers_our_layers_when_it_is_imported():
    code = (
        "import keras_squeeze, keras; "
        "print(keras.saving.get_registered_object("
        "'keras_squeeze>QuantizedDense'))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "QuantizedDense" in child.stdout, child.stderr

import doctest
import importlib
import inspect
import json
import pathlib
import pkgutil
import tomllib

import pytest

import keras_squeeze as ks
from keras_squeeze.report import Report

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = pathlib.Path(ks.__file__).parent
KERAS_FREE = (
    "artifact",
    "cli",
    "codecs",
    "errors",
    "low_rank",
    "pruning",
    "quantizers",
    "registry",
    "report",
    "schedules",
    "testing",
)
NAMES = sorted(
    module.name
    for module in pkgutil.walk_packages(ks.__path__, "keras_squeeze.")
    if not module.name.endswith("__main__")
)


def test_version_is_the_one_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ks.__version__


def test_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("name", sorted(ks.__all__))
def test_every_public_name_resolves(name):
    assert getattr(ks, name) is not None
    assert name in dir(ks)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"exprot.*export"):
        ks.exprot  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_names_in_all_exist(name):
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), f"{name}.{public}"


def public_objects(module):
    """Functions and classes of a module, and the methods of its classes."""
    for name, value in vars(module).items():
        ours = getattr(value, "__module__", None) == module.__name__
        if name.startswith("_") or not ours:
            continue
        if inspect.isclass(value):
            yield name, value
            yield from methods(name, value)
        elif inspect.isfunction(value):
            yield name, value


def methods(owner, cls):
    for name, value in vars(cls).items():
        if name.startswith("_"):
            continue
        function = getattr(value, "__func__", getattr(value, "fget", value))
        # An override may inherit what its base says.
        inherited = any(hasattr(base, name) for base in cls.__mro__[1:])
        if inspect.isfunction(function) and not inherited:
            yield f"{owner}.{name}", function


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented(name):
    module = importlib.import_module(name)
    bare = [
        f"{name}.{found}"
        for found, value in public_objects(module)
        if not value.__doc__ or generated(value)
    ]
    assert not bare


def generated(value):
    """Whether a docstring is the one `dataclass` writes itself."""
    return inspect.isclass(value) and value.__doc__.startswith(
        f"{value.__name__}("
    )


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n.split(".")[1] in KERAS_FREE]
)
def test_doctests(name):
    module = importlib.import_module(name)
    namespace = {"ks": ks}
    failed, _ = doctest.testmod(
        module, extraglobs=namespace, optionflags=doctest.ELLIPSIS
    )
    assert failed == 0


def test_files_and_functions_are_short():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def report():
    rows = (
        {"layer": "dense", "shape": (3, 4), "bytes": 12345, "share": 0.5},
        {"layer": "[bold]x", "shape": (), "bytes": 2, "share": None},
    )
    return Report(
        "Title [of] it",
        ("layer", "shape", "bytes", "share"),
        rows,
        {"file_bytes": 12347, "ratio": 12.3456, "ok": True},
        ({"path": "norm", "reason": "no kernel"},),
    )


def test_report_prints_a_table_with_title_totals_and_skipped():
    text = str(report())
    lines = text.splitlines()
    assert lines[0] == "Title [of] it"
    assert "3\u00d74" in text
    assert "12,345" in text
    assert "[bold]x" in text
    assert "file bytes: 12,347, ratio: 12.35, ok: yes" in text
    assert lines[-1] == "skipped norm: no kernel"


def test_report_as_dictionary_is_json_ready():
    found = json.loads(json.dumps(report().to_dict()))
    assert found["rows"][0]["bytes"] == 12345
    assert found["totals"]["ok"] is True
    assert found["skipped"] == [{"path": "norm", "reason": "no kernel"}]


def test_report_is_immutable_and_its_dictionary_is_a_copy():
    original = report()
    with pytest.raises(AttributeError):
        original.title = "other"
    original.to_dict()["totals"]["ok"] = False
    assert original.totals["ok"] is True


def test_report_without_rows_prints_its_title():
    assert str(Report("Nothing", ("a",))).startswith("Nothing")

"""The build hook: compiles the kernels where a C compiler is.

Without a compiler, or with `KERAS_SQUEEZE_BUILD_NATIVE=0` in the environment,
the wheel is a pure Python one and does the same things more slowly.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import platform
import sysconfig
import tempfile
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NATIVE = pathlib.Path("keras_squeeze", "native")


class NativeBuildHook(BuildHookInterface[Any]):
    """Adds the compiled library to the wheel and names its platform."""

    PLUGIN_NAME = "custom"
    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles the kernels before the files of the wheel are gathered.

        Args:
            version: String, `"standard"` or `"editable"`.
            build_data: Dictionary that steers the rest of the build; changed
                in place where there is a library.
        """
        if os.environ.get("KERAS_SQUEEZE_BUILD_NATIVE", "1") == "0":
            return
        root = pathlib.Path(self.root)
        building = _load(root / _NATIVE / "building.py")
        native = _load(root / _NATIVE / "__init__.py")
        name = native.LIBRARY_PATH.name
        if version == "editable":
            # An editable install imports from the source folder.
            building.build(root / _NATIVE / name)
            return
        self._folder = tempfile.TemporaryDirectory()
        library = pathlib.Path(self._folder.name) / name
        if building.build(library):
            inside = (_NATIVE / name).as_posix()
            build_data["force_include"][str(library)] = inside
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform_tag()}"

    def finalize(
        self, version: str, build_data: dict[str, Any], artifact_path: str
    ) -> None:
        """Removes the folder in which the library was compiled.

        Args:
            version: String, `"standard"` or `"editable"`.
            build_data: Dictionary of the build.
            artifact_path: String, the wheel that was written.
        """
        if self._folder is not None:
            self._folder.cleanup()


def _load(path: pathlib.Path) -> ModuleType:
    # By path: importing the package would need what it depends on.
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"Expected a Python file. Received: {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform_tag() -> str:
    tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    # A universal Python compiles for the processor it runs on.
    return tag.replace("universal2", platform.machine())

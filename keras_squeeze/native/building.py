"""Compiles the kernels with whatever C compiler is there.

    python -m keras_squeeze.native.building

The package's build calls this; it never fails a build. It imports nothing of
the package, because the build loads it by its path.
"""

from __future__ import annotations

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence

_SOURCE = pathlib.Path(__file__).parent / "source"
_FLAGS = ("-std=c11", "-O3", "-fPIC", "-shared", "-fno-strict-aliasing")
_TIMEOUT_SECONDS = 300


def compilers() -> Iterator[list[str]]:
    """Commands of C compilers that are installed, the preferred one first.

    Yields:
        Lists of strings. Only the one in the environment variable `CC` where
        that is set.
    """
    wanted = os.environ.get("CC")
    usual = (sysconfig.get_config_var("CC"), "cc", "gcc", "clang")
    seen: list[list[str]] = []
    for line in (wanted,) if wanted else usual:
        command = shlex.split(line or "")
        if command and command not in seen and shutil.which(command[0]):
            seen.append(command)
            yield command


def build(target: pathlib.Path, extra_flags: Sequence[str] = ()) -> bool:
    """Compiles all sources into one shared library.

    Args:
        target: Path of the library. Replaced only if compiling succeeds.
        extra_flags: Sequence of strings, further flags for the compiler.

    Returns:
        Whether a library was built.
    """
    sources = sorted(str(path) for path in _SOURCE.glob("*.c"))
    for compiler in compilers() if sources else ():
        with tempfile.TemporaryDirectory() as folder:
            output = pathlib.Path(folder) / target.name
            command = [*compiler, *_FLAGS, *extra_flags, "-o", str(output)]
            if _runs([*command, *sources]) and _install(output, target):
                return True
    return False


def _runs(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    return done.returncode == 0


def _install(output: pathlib.Path, target: pathlib.Path) -> bool:
    # Replaced, not overwritten: a process may have the old one loaded.
    staged = target.with_name(f"{target.name}.{os.getpid()}.building")
    try:
        shutil.copyfile(output, staged)
        os.replace(staged, target)
    except OSError as error:
        print(error, file=sys.stderr)
        staged.unlink(missing_ok=True)
        return False
    return True


if __name__ == "__main__":
    from keras_squeeze.native import LIBRARY_PATH

    built = build(LIBRARY_PATH)
    print(f"built {LIBRARY_PATH}" if built else "no library was built")
    sys.exit(0 if built else 1)

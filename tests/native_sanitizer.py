"""Fuzzes the compiled kernels under the address and undefined sanitizers.

    python -m tests.native_sanitizer [arguments of tests.fuzz_codecs]

Where the compiler has no sanitizers, it says so and succeeds.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

from keras_squeeze.native import building

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLAGS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-g",
    # Checks at -O1 take a minute to compile, and run little faster.
    "-O0",
)


def runtime() -> str | None:
    """The library that must be loaded first for the address sanitizer."""
    for compiler in building.compilers():
        done = subprocess.run(
            [*compiler, "-print-file-name=libasan.so"],
            capture_output=True,
            text=True,
            check=False,
        )
        path = done.stdout.strip()
        if done.returncode == 0 and os.path.isabs(path):
            return path
    return None


def environment_with(library: pathlib.Path, preload: str) -> dict[str, str]:
    """The environment of a process that loads a library with sanitizers."""
    return {
        **os.environ,
        "LD_PRELOAD": preload,
        # Python leaves memory to the system when it ends.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "KERAS_SQUEEZE_NATIVE": str(library),
        "PYTHONMALLOC": "malloc",
    }


def main() -> int:
    """Builds the library, then runs the fuzzer with it in a child process."""
    preload = runtime()
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "kernels.so"
        if preload is None or not building.build(library, FLAGS):
            print("skipped: no compiler with sanitizers")
            return 0
        environment = environment_with(library, preload)
        command = [sys.executable, "-m", "tests.fuzz_codecs", *sys.argv[1:]]
        return subprocess.run(
            command, cwd=ROOT, env=environment, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())

"""Builds of the compiled kernels with parts of the model counted or left out.

A variant is a list of substitutions in the C sources. Every one must be found,
so that a table made with it cannot silently measure the unchanged model.
"""

from __future__ import annotations

import contextlib
import functools
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from keras_squeeze import native
from keras_squeeze.native import building

#: File, old text, new text.
Patch = tuple[str, str, str]

_SOURCE = pathlib.Path(native.__file__).with_name("source")
_FOLDER = tempfile.TemporaryDirectory()
_FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-fno-strict-aliasing")

#: One path for all, so that one patch is enough.
PORTABLE: tuple[Patch, ...] = (
    ("context_mixing.c", "#if defined(__x86_64__)", "#if 0"),
)


@functools.cache
def build(patches: tuple[Patch, ...]) -> pathlib.Path:
    """Compiles context mixing alone, with the patches applied.

    Args:
        patches: Tuple of `(file, old, new)`.

    Returns:
        Path of the library; it lives as long as the process.

    Raises:
        ValueError: If a patch does not fit the sources.
    """
    # Libraries stay: a loader may take a new file for an old one.
    folder = pathlib.Path(tempfile.mkdtemp(dir=_FOLDER.name))
    kernel = _SOURCE.glob("context_mixing*.[ch]")
    for path in (*kernel, _SOURCE / "interface.c"):
        text = path.read_text()
        for name, old, new in patches:
            if name == path.name:
                if old not in text:
                    raise ValueError(f"{name} does not contain {old!r}")
                text = text.replace(old, new)
        (folder / path.name).write_text(text)
    library = folder / native.LIBRARY_PATH.name
    compiler = next(building.compilers())
    subprocess.run(
        [*compiler, *_FLAGS, "-o", str(library), *folder.glob("*.c")],
        check=True,
    )
    return library


@contextlib.contextmanager
def variant(patches: Sequence[Patch]) -> Iterator[None]:
    """Lets the codecs use such a build for a while."""
    plain = native.LIBRARY_PATH
    use(build(tuple(patches)))
    try:
        yield
    finally:
        use(plain)


def use(library: pathlib.Path) -> None:
    """Makes `native` load another library."""
    native.LIBRARY_PATH = library
    native._library.cache_clear()
    native.function.cache_clear()

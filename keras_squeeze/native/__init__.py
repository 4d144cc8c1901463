"""The compiled kernels, where a compiler was there when we were installed.

One small shared library, called through `ctypes`, which releases the GIL. It
only makes things faster: every kernel has a reference in NumPy or Python that
gives the same bytes and serves where the library is missing. The environment
variable `KERAS_SQUEEZE_NATIVE` set to `0` turns the library off; set to the
path of a library it loads that one instead, such as a build with sanitizers.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")

#: Counted up, here and in `source/interface.c`, whenever a kernel's arguments
#: change.
INTERFACE_VERSION = 4

#: Where the build puts the library. The dot within its name keeps Python from
#: taking it for a module.
LIBRARY_PATH = pathlib.Path(__file__).parent / f"_kernels.native{_SUFFIX}"


@functools.cache
def _library() -> ctypes.CDLL | None:
    wanted = os.environ.get("KERAS_SQUEEZE_NATIVE", "1")
    if wanted == "0":
        return None
    try:
        path = LIBRARY_PATH if wanted in ("", "1") else wanted
        library = ctypes.CDLL(str(path))
        version = library.ks_interface_version()
    except (AttributeError, OSError):
        return None
    # A library compiled from other sources would be called wrongly.
    return library if version == INTERFACE_VERSION else None


def available() -> bool:
    """Whether the compiled kernels can be called.

    Example:
    >>> available() in (True, False)
    True
    """
    return _library() is not None


@functools.cache
def function(
    name: str, restype: Any, argtypes: Sequence[Any]
) -> Callable[..., Any] | None:
    """Finds a kernel.

    Args:
        name: String. The exported name.
        restype: A `ctypes` type, what it returns.
        argtypes: Tuple of `ctypes` types, what it takes.

    Returns:
        The callable, or `None` where there are no compiled kernels.
    """
    library = _library()
    if library is None:
        return None
    try:
        kernel = library[name]
    except AttributeError:
        # A library built from older sources lacks the kernel.
        return None
    kernel.restype = restype
    kernel.argtypes = list(argtypes)
    return kernel

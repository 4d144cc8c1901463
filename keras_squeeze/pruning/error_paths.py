"""Errors about one kernel of many say which."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from keras_squeeze.errors import SqueezeError


@contextlib.contextmanager
def path_in_errors(path: str) -> Iterator[None]:
    """Puts a kernel's path before the message of an error.

    Args:
        path: String. The path of the kernel that is worked on.

    Raises:
        SqueezeError: If the body raises one.
    """
    try:
        yield
    except SqueezeError as error:
        raise SqueezeError(f"{path}: {error}") from error

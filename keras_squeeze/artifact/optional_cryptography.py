"""The package `cryptography`, which signatures and encryption need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from keras_squeeze.errors import SqueezeError


@contextmanager
def needs_cryptography() -> Iterator[None]:
    """Says what to install where an import of `cryptography` fails.

    Raises:
        SqueezeError: If the package, or a part of it, is not installed.

    Example:
    >>> with needs_cryptography():
    ...     from cryptography import exceptions
    """
    try:
        yield
    except ImportError as error:
        raise SqueezeError(
            "Expected the package `cryptography` for signatures and "
            "encryption: `pip install 'keras_squeeze[sign]'`. "
            f"Received: {error}"
        ) from error

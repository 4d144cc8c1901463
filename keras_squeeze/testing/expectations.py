"""What checks share: a promise, and what came instead."""

from __future__ import annotations

import json
from typing import Any


def expect(condition: object, promise: str, received: object) -> None:
    """Raises if a promise is broken.

    Args:
        condition: Boolean, of Python or NumPy. Whether it is kept.
        promise: String. What was expected.
        received: What came instead.

    Raises:
        AssertionError: If `condition` is false.
    """
    if not condition:
        raise AssertionError(f"Expected {promise}. Received: {received}")


def check_config(entry: Any) -> None:
    """Checks that the config of an object makes an equal one.

    Args:
        entry: An object with `get_config()`.

    Raises:
        AssertionError: If the config does not survive JSON, or the object
            made of it differs.
    """
    config = entry.get_config()
    try:
        stored = json.loads(json.dumps(config))
    except TypeError as error:
        raise AssertionError(
            f"Expected a config that is ready for JSON. Received: {config}"
        ) from error
    again = type(entry)(**stored)
    expect(again == entry, "an equal object from its config", again)
    expect(hash(again) == hash(entry), "equal hashes of equal objects", again)
    expect(repr(again) == repr(entry), "equal reprs of equal objects", again)

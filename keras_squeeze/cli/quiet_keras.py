"""Imports Keras without the log lines TensorFlow prints while it starts."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def import_keras() -> Any:
    """Imports Keras quietly.

    Returns:
        The module `keras`.

    Raises:
        ImportError: If Keras or its backend cannot be imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Keras calls its own `.h5` legacy in a warning; here it is wanted.
    logging.getLogger("absl").setLevel(logging.ERROR)
    with _standard_error_held_back():
        import keras
    return keras


@contextmanager
def _standard_error_held_back() -> Iterator[None]:
    # TensorFlow writes to the descriptor from C++ before it reads its log
    # level, so replacing `sys.stderr` would not silence it.
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)

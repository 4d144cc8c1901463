"""SIGTERM as an exception, so that what was begun is cleaned up."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

#: The exit code of a command that SIGTERM ended, as a shell reports it.
TERMINATED = 128 + signal.SIGTERM


@contextlib.contextmanager
def exit_on_termination() -> Iterator[None]:
    """Lets SIGTERM raise `SystemExit(143)` inside the block.

    In another thread than the main one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)

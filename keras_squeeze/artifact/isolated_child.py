"""What runs in the child process of `isolation`: limits first, then `verify`.

It answers on its standard output, in JSON, with a report or an error.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any, cast

from keras_squeeze.artifact.access import AccessOptions
from keras_squeeze.artifact.inspection import verify
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.errors import SqueezeError
from keras_squeeze.report import Report

_MAX_OPEN_FILES = 32


def main(request: Mapping[str, Any]) -> None:
    """Verifies one file and writes the answer.

    Args:
        request: Mapping. What `isolation.verify_isolated` sends.
    """
    # Whatever else may be written to it must not come between.
    answer_to, sys.stdout = sys.stdout, sys.stderr
    _set_limits(request["isolation"])
    try:
        answer = _answer(request)
    except MemoryError:
        most = request["isolation"]["max_memory_bytes"]
        answer = _failure(
            "LimitExceededError",
            f"Expected {request['path']!r} to be verified in {most:,} bytes "
            "of memory. Received: it needs more",
        )
    answer_to.write(json.dumps(answer))
    answer_to.flush()


def _set_limits(isolation: Mapping[str, Any]) -> None:
    sys.dont_write_bytecode = True
    try:
        import resource
    except ImportError:  # Windows.
        return
    wanted = {
        resource.RLIMIT_AS: isolation["max_memory_bytes"],
        resource.RLIMIT_CPU: isolation["max_cpu_seconds"],
        resource.RLIMIT_NOFILE: _MAX_OPEN_FILES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in wanted.items():
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        # One second lies between the warning and the end.
        slack = 1 if kind == resource.RLIMIT_CPU else 0
        resource.setrlimit(kind, (limit, limit + slack))


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    options = {
        name: bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
        for name, value in request["access"].items()
        if name != "limits"
    }
    limits = Limits(**request["access"]["limits"])
    try:
        report = verify(request["path"], limits, **cast(AccessOptions, options))
        return {"report": dataclasses.asdict(report), "error": None}
    except SqueezeError as error:
        found = getattr(error, "report", None)
        return _failure(type(error).__name__, str(error), report=found)
    except OSError as error:
        return _failure("OSError", error.errno, error.strerror, error.filename)


def _failure(
    kind: str, *arguments: Any, report: Report | None = None
) -> dict[str, Any]:
    error = {"type": kind, "arguments": list(arguments)}
    content = None if report is None else dataclasses.asdict(report)
    return {"report": content, "error": error}

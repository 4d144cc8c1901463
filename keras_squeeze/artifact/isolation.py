"""`verify` in a child process whose memory and time are bounded.

A file that crashes the reader, hangs it or eats its memory gets a verdict
then, and the process that asked lives on. It bounds what a mistake in a
decoder can cost; it is no jail for code.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from typing import Any

from keras_squeeze import errors
from keras_squeeze.artifact.access import Access
from keras_squeeze.errors import (
    ArtifactError,
    CorruptArtifactError,
    LimitExceededError,
    SqueezeError,
    UnsafeArtifactError,
)
from keras_squeeze.report import Report

# The child trusts what it is told on its standard input, and the parent only
# parses JSON from it.
_PROGRAM = (
    "import json, sys; request = json.load(sys.stdin); "
    "sys.path[:] = request['sys_path']; "
    "from keras_squeeze.artifact.isolated_child import main; main(request)"
)


@dataclasses.dataclass(frozen=True)
class Isolation:
    """What a child process may use.

    Args:
        max_memory_bytes: Integer. Its address space. Defaults to 4 GiB.
        max_cpu_seconds: Integer. Its time on all cores. Defaults to 600.
        max_seconds: Number. When it is ended at the latest. Defaults to 600.
    """

    max_memory_bytes: int = 4 << 30
    max_cpu_seconds: int = 600
    max_seconds: float = 600.0


def verify_isolated(
    path: str | os.PathLike[str],
    access: Access | None = None,
    isolation: Isolation | None = None,
) -> Report:
    """Verifies a file in a child process.

    Where the operating system knows no limits for a process (Windows), only
    the time is bounded.

    Args:
        path: Path of the file.
        access: Optional `Access`. Keys and paths go to the child through a
            pipe.
        isolation: Optional `Isolation`. Defaults to `Isolation()`.

    Returns:
        The `Report` of `verify`.

    Raises:
        LimitExceededError: If the child needed more time or memory.
        UnsafeArtifactError: If the child crashed.
        ArtifactError: What `verify` raises.
    """
    name, isolation = os.fspath(path), isolation or Isolation()
    request = {
        "sys_path": [folder or os.getcwd() for folder in sys.path],
        "path": name,
        "access": _to_json(access or Access()),
        "isolation": dataclasses.asdict(isolation),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _PROGRAM],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=isolation.max_seconds,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LimitExceededError(
            f"Expected {name!r} to be verified within {isolation.max_seconds} "
            "seconds. Received: no answer; the process was ended"
        ) from None
    return _verdict(name, done, isolation)


def _to_json(access: Access) -> dict[str, Any]:
    options: dict[str, Any] = {
        "limits": dataclasses.asdict(access.limits),
        "expected_sha256": access.expected_sha256,
    }
    for field in ("signature", "public_key", "key", "base"):
        options[field] = _plain(field, getattr(access, field))
    return options


def _plain(field: str, value: Any) -> Any:
    """Bytes as `{"hex": ...}`, paths as strings, keys as PEM."""
    if field == "base" and hasattr(value, "manifest"):
        value = value.path
    if hasattr(value, "public_bytes"):
        from cryptography.hazmat.primitives import serialization

        value = value.public_bytes(
            serialization.Encoding.PEM,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        )
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _verdict(
    name: str,
    done: subprocess.CompletedProcess[bytes],
    isolation: Isolation,
) -> Report:
    if _ending(done).endswith("SIGXCPU"):
        raise LimitExceededError(
            f"Expected {name!r} to be verified in "
            f"{isolation.max_cpu_seconds} seconds of processor time. "
            "Received: more; the process was ended"
        )
    try:
        answer = json.loads(done.stdout)
        report = _report(answer["report"])
        error = _error(answer["error"], report)
    except (ValueError, LookupError, TypeError):
        raise UnsafeArtifactError(
            f"Expected the process that reads {name!r} to end with a verdict. "
            f"Received: {_ending(done)}"
        ) from None
    if error is not None:
        raise error
    if report is None:
        raise UnsafeArtifactError(
            f"Expected a report about {name!r}. Received: nothing"
        )
    return report


def _report(content: dict[str, Any] | None) -> Report | None:
    if content is None:
        return None
    sequences = {
        field: tuple(content[field]) for field in ("columns", "rows", "skipped")
    }
    return Report(**{**content, **sequences})


def _error(
    content: dict[str, Any] | None, report: Report | None
) -> Exception | None:
    if content is None:
        return None
    if content["type"] == "OSError":
        return OSError(*content["arguments"])
    kind = getattr(errors, content["type"], ArtifactError)
    if not isinstance(kind, type) or not issubclass(kind, SqueezeError):
        kind = ArtifactError
    error = kind(*content["arguments"])
    if isinstance(error, CorruptArtifactError):
        error.report = report
    return error


def _ending(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode >= 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return " ".join([f"exit code {done.returncode} and no verdict", *said])
    try:
        return f"the end by {signal.Signals(-done.returncode).name}"
    except ValueError:
        return f"the end by signal {-done.returncode}"

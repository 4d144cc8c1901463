"""What the manifest of an increment says about its base."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from keras_squeeze.errors import CorruptArtifactError

#: Place, first tensor, number of tensors.
Run = tuple[int, int, int]

_DIGEST = re.compile("[0-9a-f]{64}")
_LARGEST = 1 << 32


@dataclasses.dataclass(frozen=True)
class BaseReference:
    """Which file is the base, and what is taken from it as it is.

    Args:
        digest: String. The base's digest: the SHA-256 in its header, in hex.
        model: Tuple of strings. The keys of the base's `Manifest.model` that
            are this model's too, and not repeated.
        unchanged: Tuple of triples `(place, first, count)`: `count` tensors
            of the base, from the one of index `first`, come before the
            tensor of index `place` among those that the file lists itself.
    """

    digest: str
    model: tuple[str, ...] = ()
    unchanged: tuple[Run, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The reference as it stands in a manifest."""
        content: dict[str, Any] = {"digest": self.digest}
        if self.model:
            content["model"] = list(self.model)
        if self.unchanged:
            content["unchanged"] = [list(run) for run in self.unchanged]
        return content


def base_from_json(content: Any, required: bool) -> BaseReference | None:
    """Reads and checks what `BaseReference.to_json` made.

    Args:
        content: The manifest's entry `base`, `None` if there is none.
        required: Boolean. Whether the manifest requires a base.

    Returns:
        `BaseReference`, or `None` where nothing is required.

    Raises:
        CorruptArtifactError: If it is not a valid one.
    """
    if not required:
        return None
    if not isinstance(content, dict):
        raise _corrupt("an entry `base`", content)
    digest = content.get("digest")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _corrupt("a digest of 64 hex digits", digest)
    model = content.get("model", [])
    if not isinstance(model, list) or not all(
        isinstance(key, str) for key in model
    ):
        raise _corrupt("a list of keys of the model", model)
    return BaseReference(
        digest, tuple(model), _runs(content.get("unchanged", []))
    )


def _runs(content: Any) -> tuple[Run, ...]:
    if not isinstance(content, list):
        raise _corrupt("a list of unchanged tensors", content)
    place, runs = 0, []
    for run in content:
        if not isinstance(run, list) or len(run) != 3:
            raise _corrupt("a place, a first tensor and a count", run)
        if not all(type(n) is int and 0 <= n < _LARGEST for n in run):
            raise _corrupt("three small integers", run)
        if run[0] < place:
            raise _corrupt("ascending places", run)
        place = run[0]
        runs.append((run[0], run[1], run[2]))
    return tuple(runs)


def _corrupt(expected: str, received: object) -> CorruptArtifactError:
    return CorruptArtifactError(
        f"Expected {expected} in the manifest of a file that has a base. "
        f"Received: {str(received)[:200]}"
    )

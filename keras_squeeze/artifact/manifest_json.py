"""JSON that nobody vouches for: no key twice, no infinity, no great depth."""

from __future__ import annotations

import json
from typing import Any

from keras_squeeze.artifact.limits import Limits, check_limit
from keras_squeeze.errors import CorruptArtifactError, SqueezeError


def parse_json(data: bytes, limits: Limits) -> Any:
    """Parses the JSON of a manifest, which anybody may have written.

    Args:
        data: Bytes. UTF-8 JSON.
        limits: A `Limits` object.

    Returns:
        The content, of no unbounded depth.

    Raises:
        CorruptArtifactError: If it is no JSON, says a key twice, or holds
            numbers that are not finite.
        LimitExceededError: If it is longer or deeper than the limits allow.
    """
    check_limit("a manifest in bytes", len(data), limits.max_manifest_bytes)
    try:
        content = json.loads(
            data,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        if isinstance(error, SqueezeError):
            raise
        raise CorruptArtifactError(
            f"Expected a manifest in JSON. Received: {error}"
        ) from error
    _check_depth(content, limits.max_depth)
    return content


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise CorruptArtifactError(
            "Expected a manifest in which no key is given twice. "
            f"Received: {[key for key, _ in pairs][:20]}"
        )
    return content


def _refuse_constant(name: str) -> Any:
    raise CorruptArtifactError(
        f"Expected a manifest of finite numbers. Received: {name}"
    )


def _check_depth(content: Any, limit: int) -> None:
    level, depth = [content], 0
    while level:
        depth += 1
        check_limit("a manifest nested in depth", depth, limit)
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]

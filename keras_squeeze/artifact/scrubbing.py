"""What of a model's config goes into a file: what rebuilds the model, only.

Left out, unless asked for by its name in `keep`:

| name | what it is |
|---|---|
| `"compile_config"` | optimizer, loss and metrics of `compile` |
| `"modules"` | the modules in which classes of your own are defined |
| `"paths"` | strings that look like paths or addresses |

State of an optimizer is never in a file. Seeds are: they are state of the
layers that draw random numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from keras_squeeze.errors import SqueezeError, UnsupportedModelError

KEEP = ("compile_config", "modules", "paths")
# Absolute, of a home, of a drive or a share, or an address.
_PATH = re.compile(
    r"(/|~[\w.-]*/|[A-Za-z]:[\\/]|\\\\)[\w.~-]|[a-z][a-z0-9+.-]*://\S"
)
# Words of a language, not places; but a vocabulary that is no list is one.
_WORDS = frozenset({"mask_token", "oov_token"})
_LISTS_OF_WORDS = frozenset({"vocabulary"})


def check_keep(keep: Collection[str]) -> None:
    """Refuses names of what is never in a file, before any work is done.

    Args:
        keep: Collection of strings.

    Raises:
        SqueezeError: If one of them is none of `KEEP`.

    Example:
    >>> check_keep(["compile_config"])
    """
    unknown = [keep] if isinstance(keep, str) else sorted(set(keep) - {*KEEP})
    if unknown:
        raise SqueezeError(
            f"Expected `keep` to list some of {KEEP}. Received: {unknown}"
        )


def scrub_config(config: Any, keep: Collection[str] = ()) -> Any:
    """A copy of a model's config without what does not rebuild the model.

    Args:
        config: JSON value, as Keras serializes models.
        keep: Collection of strings out of `KEEP`. Defaults to `()`.

    Returns:
        A new JSON value; the leaves are shared.

    Raises:
        SqueezeError: If `keep` lists anything else.
        UnsupportedModelError: If a string in it looks like a path.
    """
    check_keep(keep)
    scrubbed = _scrub(config, frozenset(keep))
    if "paths" not in keep:
        _refuse_paths(scrubbed)
    return scrubbed


def _scrub(node: Any, keep: frozenset[str]) -> Any:
    if isinstance(node, list | tuple):
        return [_scrub(item, keep) for item in node]
    if not isinstance(node, dict):
        return node
    scrubbed = {
        key: _scrub(value, keep)
        for key, value in node.items()
        if key != "compile_config" or key in keep
    }
    if "modules" not in keep and _is_own_object(node):
        # Keras finds it by the name under which it is registered.
        scrubbed["module"] = None
    return scrubbed


def _is_own_object(node: dict[str, Any]) -> bool:
    module, is_found = node.get("module"), bool(node.get("registered_name"))
    if not isinstance(module, str) or "class_name" not in node or not is_found:
        return False
    return module.split(".")[0] not in ("builtins", "keras", "keras_squeeze")


def _refuse_paths(config: Any) -> None:
    for place, text in _strings(config, ""):
        if _PATH.match(text):
            raise UnsupportedModelError(
                f"Expected no path or address in the model's config, but "
                f"{place!r} holds one; pass keep=('paths',) to write it into "
                f"the file. Received: {text!r}"
            )


def _strings(node: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield place, node
    elif isinstance(node, dict):
        for key, value in node.items():
            is_list = key in _LISTS_OF_WORDS and isinstance(value, list)
            if key not in _WORDS and not is_list:
                yield from _strings(value, f"{place}.{key}" if place else key)
    elif isinstance(node, list):
        for number, item in enumerate(node):
            yield from _strings(item, f"{place}[{number}]")

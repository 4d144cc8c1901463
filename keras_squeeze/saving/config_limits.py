"""What a config of harmless layers may ask for while the model is built.

Variables are charged to a budget (`variable_budget`). This is about the rest:
lists that Keras makes as long as a number in the config says, states of a
batch, and operations that would run at once instead of becoming a graph.
"""

from __future__ import annotations

from typing import Any

from keras_squeeze.artifact.limits import check_limit
from keras_squeeze.errors import UnsafeArtifactError

_LENGTHS = frozenset({"ngrams", "num_oov_indices", "num_thresholds"})
_LONGEST = 1 << 20
# Recurrent layers that keep their states allocate them for a whole batch.
_BATCHED_SHAPES = frozenset(
    {"batch_input_shape", "batch_shape", "build_input_shape", "input_shape"}
)
_LARGEST_BATCH = 1 << 16
_CALLS = "inbound_nodes"
_SYMBOLIC = "__keras_tensor__"


def check_sizes(key: Any, node: Any, where: str) -> None:
    """Refuses one entry of a config if it asks for too much.

    Args:
        key: The entry's key.
        node: The entry's value.
        where: String. The file, for the message.

    Raises:
        LimitExceededError: If a length or a batch is larger than in any model.
        UnsafeArtifactError: If a layer would be called on constants.
    """
    if key in _LENGTHS and isinstance(node, int | float):
        check_limit(f"{key!r} in {where!r}", _whole(node), _LONGEST)
    elif key in _BATCHED_SHAPES and isinstance(node, list):
        if node and isinstance(node[0], int | float):
            what = f"a batch in {key!r} of {where!r}"
            check_limit(what, _whole(node[0]), _LARGEST_BATCH)
    elif key == _CALLS and isinstance(node, list):
        for call in node:
            _check_call(call, where)


def _whole(number: float) -> int:
    # 1e999 is infinity in Python's JSON.
    return int(min(number, 1 << 62))


def _check_call(call: Any, where: str) -> None:
    # Keras 3 writes dictionaries; lists of older files name tensors only.
    if isinstance(call, dict) and not _is_symbolic(call):
        raise UnsafeArtifactError(
            f"Expected every call in the config of {where!r} to have a tensor "
            "of the model among its arguments; one without would run at once. "
            f"Received: {str(call)[:200]}"
        )


def _is_symbolic(call: Any) -> bool:
    stack = [call]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if node.get("class_name") == _SYMBOLIC:
                return True
            stack.extend(node.values())
        elif isinstance(node, list | tuple):
            stack.extend(node)
    return False

"""Which tensor of a base a tensor is coded against."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from keras_squeeze.artifact.manifest import TensorRecord
from keras_squeeze.artifact.references import Reference
from keras_squeeze.artifact.tensor_decoding import references_named
from keras_squeeze.artifact.tensor_input import TensorInput

if TYPE_CHECKING:
    from keras_squeeze.artifact.opened import Artifact

# Numbers that Keras appends to names it makes up.
_NUMBER = re.compile(r"_\d+(?=/|$)")


class Counterparts:
    """Finds tensors of a base by name.

    A name that the base does not have is looked for without the numbers that
    Keras appends, in the order in which such names come.

    Args:
        base: `Artifact`.
    """

    def __init__(self, base: Artifact) -> None:
        self._base = base
        self._by_name = {record.name: record for record in base.tensors}
        self._by_kind: dict[str, list[TensorRecord]] = defaultdict(list)
        for record in base.tensors:
            self._by_kind[_NUMBER.sub("", record.name)].append(record)
        self._asked: dict[str, int] = defaultdict(int)

    def find(self, tensor: TensorInput) -> Reference | None:
        """The counterpart of a tensor, decoded.

        Args:
            tensor: `TensorInput`; to be asked for once, in model order.

        Returns:
            `Reference`, or `None` if the base has no tensor of that name and
            shape.
        """
        for record in self._candidates(tensor.name):
            if record.shape == tuple(tensor.shape):
                name = record.name
                return references_named([name], self._base)[name]
        return None

    def skip(self, name: str) -> None:
        """Counts a tensor whose counterpart is not needed."""
        self._candidates(name)

    def _candidates(self, name: str) -> list[TensorRecord]:
        kind = _NUMBER.sub("", name)
        place = self._asked[kind]
        self._asked[kind] += 1
        found = [self._by_name[name]] if name in self._by_name else []
        return found + self._by_kind.get(kind, [])[place : place + 1]

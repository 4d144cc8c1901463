"""The codes of a whole model, while it is being decided which ones to take.

Quantizing for a ratio or a size tries several steps on all kernels. What each
attempt gives is kept here: small models in memory, large ones in a folder
beside the file to be written, a file a kernel.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Iterator, MutableMapping
from types import TracebackType
from typing import Any

import numpy as np

from keras_squeeze.artifact.ownership import OwnedFolder, temporary_folder
from keras_squeeze.artifact.parts import read_pieces, write_pieces
from keras_squeeze.errors import ArtifactError
from keras_squeeze.quantizers import QuantizedTensor

#: Codes of one attempt that stay in memory, in bytes.
MEMORY_BYTES = 16 << 20


class SpoolFolder:
    """The folder that the codes of large models wait in; a context manager.

    Args:
        target: String. The file that is to be written.
        encrypted: Boolean. Whether what lies in the folder is encrypted, with
            a key that only this process knows. Defaults to `False`.
    """

    def __init__(self, target: str, encrypted: bool = False) -> None:
        self._target = os.path.realpath(target)
        self._folder: OwnedFolder | None = None
        self._count = 0
        self.key = secrets.token_bytes(32) if encrypted else None

    def spool(self) -> CodeSpool:
        """A new, empty mapping for the codes of one attempt."""
        return CodeSpool(self)

    def new_path(self) -> str:
        """A path in the folder that nothing has."""
        if self._folder is None:
            self._folder = temporary_folder(self._target)
        self._count += 1
        return self._folder.join(f"{self._count}.codes")

    def __enter__(self) -> SpoolFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.remove()


@dataclasses.dataclass(frozen=True)
class _Spooled:
    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rest: dict[str, Any]


class CodeSpool(MutableMapping[str, QuantizedTensor]):
    """Quantized tensors by name; those of large models are read when asked.

    Args:
        folder: `SpoolFolder`.
    """

    def __init__(self, folder: SpoolFolder) -> None:
        self._folder = folder
        self._kept: dict[str, QuantizedTensor | _Spooled] = {}
        self._bytes = 0

    def __setitem__(self, name: str, tensor: QuantizedTensor) -> None:
        self.pop(name, None)
        self._bytes += tensor.codes.nbytes
        if self._bytes <= MEMORY_BYTES:
            self._kept[name] = tensor
        else:
            self._kept[name] = self._write(tensor)

    def __getitem__(self, name: str) -> QuantizedTensor:
        found = self._kept[name]
        if isinstance(found, QuantizedTensor):
            return found
        codes = np.empty(found.shape, found.dtype)
        flat, start = codes.reshape(-1).view(np.uint8), 0
        key = self._folder.key
        for piece in read_pieces(found.path, 0, flat.size, key):
            flat[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
            start += len(piece)
        return QuantizedTensor(codes=codes, **found.rest)

    def __delitem__(self, name: str) -> None:
        found = self._kept.pop(name)
        if isinstance(found, _Spooled):
            os.unlink(found.path)
        else:
            self._bytes -= found.codes.nbytes

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def _write(self, tensor: QuantizedTensor) -> _Spooled:
        codes = np.ascontiguousarray(tensor.codes)
        self._bytes -= codes.nbytes
        try:
            path = self._folder.new_path()
            with open(path, "xb") as file:
                data = codes.reshape(-1).view(np.uint8).data
                write_pieces(file, [data], self._folder.key)
        except OSError as error:
            raise ArtifactError(
                "Expected room beside the target for the codes of all "
                f"kernels. Received: {error}"
            ) from error
        names = [field.name for field in dataclasses.fields(tensor)]
        rest = {n: getattr(tensor, n) for n in names if n != "codes"}
        return _Spooled(path, codes.dtype, codes.shape, rest)

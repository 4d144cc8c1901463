"""`diff`: what changed from one artifact to another, tensor by tensor."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_squeeze.artifact.access import Access
from keras_squeeze.artifact.counterparts import Counterparts
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.manifest import TensorRecord
from keras_squeeze.artifact.opened import Artifact
from keras_squeeze.artifact.reading import read, read_manifest
from keras_squeeze.artifact.recoding import tensor_of
from keras_squeeze.artifact.tensor_encoding import encode_tensor
from keras_squeeze.codecs import dtypes
from keras_squeeze.report import Report

COLUMNS = (
    "tensor",
    "shape",
    "change",
    "changed",
    "max_change",
    "relative_change",
    "bytes",
)

_PIECE = 1 << 18


@dataclasses.dataclass
class _Change:
    """Sums over a tensor, gathered piece by piece."""

    size: int = 0
    changed: int = 0
    largest: float = 0.0
    squares: float = 0.0
    power: float = 0.0

    def add(self, old: np.ndarray, new: np.ndarray) -> None:
        """Takes another piece, one-dimensional, of both tensors."""
        differ = old != new
        if old.dtype == new.dtype:
            patterns = [dtypes.bit_patterns(each) for each in (old, new)]
            width = len(patterns[0]) // max(len(old), 1)
            unequal = patterns[0] != patterns[1]
            differ = unequal.reshape(-1, max(width, 1)).any(axis=1)
        self.size += old.size
        self.changed += int(np.count_nonzero(differ))
        wide = np.complex128 if old.dtype.kind == "c" else np.float64
        with np.errstate(all="ignore"):
            before = old.astype(wide)
            steps = np.abs(new.astype(wide) - before)
            sizes = np.abs(before)
        steps, sizes = (each[np.isfinite(each)] for each in (steps, sizes))
        self.largest = max(self.largest, float(steps.max(initial=0.0)))
        self.squares += float(steps @ steps)
        self.power += float(sizes @ sizes)

    def row(self) -> dict[str, Any]:
        """The figures of a row."""
        relative = math.sqrt(self.squares / self.power) if self.power else None
        return {
            "changed": round(self.changed / max(self.size, 1), 6),
            "max_change": float(f"{self.largest:.6g}"),
            "relative_change": None
            if relative is None
            else float(f"{relative:.6g}"),
        }


def diff(
    a: str | os.PathLike[str] | Artifact,
    b: str | os.PathLike[str] | Artifact,
    *,
    base: str | os.PathLike[str] | Artifact | None = None,
    limits: Limits | None = None,
    key: bytes | str | None = None,
) -> Report:
    """Tells what changed from one artifact to another; without Keras.

    Args:
        a: Path of an artifact, or an opened one.
        b: Path of another one; may be an increment to `a`.
        base: Optional path of the base of `a` or `b`, or an opened one, where
            they are increments to something else. Defaults to `None`.
        limits: Optional `artifact.Limits`.
        key: Optional key or passphrase, where a file is encrypted.

    Returns:
        A `Report` with a row a tensor: whether it is the same, changed, added,
        removed or reshaped; the part of its values that changed; the largest
        change; the change's norm over the norm of the values in `a`; and the
        bytes that it takes in an increment with fast codecs.

    Raises:
        BaseMismatchError: If a file is an increment and its base is not
            there.
        ArtifactError: If a file is damaged, foreign, newer or unsafe.
    """
    with contextlib.ExitStack() as opened:
        bases: list[Artifact] = []
        for path in (base, a, b):
            if path is not None:
                access = Access(limits=limits or Limits(), key=key)
                bases.append(_open(path, bases, access, opened))
        return _report(*bases[-2:])


def _open(
    path: str | os.PathLike[str] | Artifact,
    bases: Sequence[Artifact],
    access: Access,
    opened: contextlib.ExitStack,
) -> Artifact:
    if isinstance(path, Artifact):
        return path
    with read_manifest(path, access=access) as found:
        wanted = found.manifest.base
    fitting = [b for b in bases if wanted and b.digest == wanted.digest]
    # Any other is given, too, so that the error names both.
    given = next(iter([*fitting, *bases]), None)
    access = dataclasses.replace(access, base=given)
    return opened.enter_context(read(path, access=access))


def _report(a: Artifact, b: Artifact) -> Report:
    old = {record.name: record for record in a.tensors}
    counterparts = Counterparts(a)
    rows = [_row(a, b, old, record, counterparts) for record in b.tensors]
    names = {record.name for record in b.tensors}
    rows += [
        {"tensor": r.name, "shape": list(r.shape), "change": "removed"}
        for r in a.tensors
        if r.name not in names
    ]
    kinds = [str(row["change"]) for row in rows]
    totals = {
        **{kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "bytes": sum(row.get("bytes") or 0 for row in rows),
        "digest_a": a.digest,
        "digest_b": b.digest,
    }
    return Report(f"{a.path} -> {b.path}", COLUMNS, tuple(rows), totals)


def _row(
    a: Artifact,
    b: Artifact,
    old: Mapping[str, TensorRecord],
    record: TensorRecord,
    counterparts: Counterparts,
) -> dict[str, Any]:
    tensor = tensor_of(b, record)
    reference = counterparts.find(tensor)
    row: dict[str, Any] = {
        "tensor": record.name,
        "shape": list(record.shape),
        "change": "added",
        "bytes": len(encode_tensor(tensor, "fast", reference).fast[1]),
    }
    known = old.get(record.name)
    if known is None:
        return row
    if known.shape != record.shape:
        return {**row, "change": "reshaped"}
    change = _Change()
    before = tensor_of(a, known).decode().reshape(-1)
    after = tensor.decode().reshape(-1)
    for start in range(0, before.size, _PIECE):
        piece = slice(start, start + _PIECE)
        change.add(before[piece], after[piece])
    row["change"] = "changed" if change.changed else "same"
    return {**row, **change.row()}

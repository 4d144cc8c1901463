"""Codes the tensors of a file, a bounded number of them at a time."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future

from keras_squeeze.artifact.counterparts import Counterparts
from keras_squeeze.artifact.encodings import roles_of
from keras_squeeze.artifact.opened import Artifact
from keras_squeeze.artifact.parts import PartStore, array_digest, part_key
from keras_squeeze.artifact.references import Reference
from keras_squeeze.artifact.tensor_encoding import CodedTensor, encode_tensor
from keras_squeeze.artifact.tensor_input import TensorInput
from keras_squeeze.codecs.profiles import AUTO_WEIGHTS

#: Tensors in flight may have so many bytes in all, unless they are no more
#: than there are workers.
WINDOW_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class DeferredTensor:
    """A tensor that is made when it is its turn to be coded.

    Args:
        name: String. The variable's path.
        make: Callable without arguments that returns the `TensorInput`.
    """

    name: str
    make: Callable[[], TensorInput]


AnyTensor = TensorInput | DeferredTensor


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What a tensor must decode to.

    Args:
        name: String.
        dtype: String.
        shape: Tuple of integers.
        sha256: String. Of its values, by `array_digest`.
        key: String. The name of its part.
        encoding: String.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    key: str
    encoding: str


@dataclasses.dataclass(frozen=True)
class _InFlight:
    key: str
    tensor_bytes: int
    future: Future[CodedTensor]


class TensorCoder:
    """Codes tensors as they come and gives them to a store.

    Without an executor each is coded in its turn. With one, as many are in
    flight as keep it busy; what is waited for is always the oldest, so that
    nothing depends on which is done first.

    Args:
        store: `PartStore`.
        profile: String, one of `codecs.PROFILES`.
        executor: Optional `concurrent.futures.Executor`.
        base: Optional `Artifact` that tensors are coded against.
    """

    def __init__(
        self,
        store: PartStore,
        profile: str,
        executor: Executor | None = None,
        base: Artifact | None = None,
    ) -> None:
        self._store = store
        self._profile = profile
        self._executor = executor
        found = getattr(executor, "_max_workers", None) or os.cpu_count()
        self._workers = int(found or 1)
        self._base_digest = "" if base is None else base.digest
        self._counterparts = None if base is None else Counterparts(base)
        self._in_flight: collections.deque[_InFlight] = collections.deque()

    def code(self, tensors: Iterable[AnyTensor]) -> list[Expectation]:
        """Codes all tensors.

        Args:
            tensors: Iterable of `TensorInput` or `DeferredTensor`.

        Returns:
            List of `Expectation`, in order; the store has a part of each.
        """
        try:
            expected = [self._begin(tensor) for tensor in tensors]
            while self._in_flight:
                self._finish_oldest()
        except BaseException:
            for waiting in self._in_flight:
                waiting.future.cancel()
            raise
        return expected

    def _begin(self, item: AnyTensor) -> Expectation:
        self._make_room(0)
        tensor = item.make() if isinstance(item, DeferredTensor) else item
        key = part_key(tensor, self._profile, self._base_digest)
        if not self._store.find(key, tensor.name):
            self._submit(key, tensor, self._find_reference(tensor))
        elif self._counterparts is not None:
            # Or the tensors after it would find others than without a resume.
            self._counterparts.skip(tensor.name)
        return _expectation(tensor, key)

    def _find_reference(self, tensor: TensorInput) -> Reference | None:
        counterparts = self._counterparts
        return None if counterparts is None else counterparts.find(tensor)

    def _submit(
        self, key: str, tensor: TensorInput, reference: Reference | None
    ) -> None:
        profile = _useful_profile(tensor, self._profile)
        if self._executor is None:
            coded = encode_tensor(tensor, profile, reference)
            self._store.add(key, coded)
            return
        size = sum(array.nbytes for array in tensor.arrays.values())
        self._make_room(size)
        future = self._executor.submit(
            encode_tensor, tensor, profile, reference
        )
        self._in_flight.append(_InFlight(key, size, future))

    def _make_room(self, size: int) -> None:
        while len(self._in_flight) >= 2 * self._workers or (
            len(self._in_flight) >= self._workers
            and size + sum(item.tensor_bytes for item in self._in_flight)
            > WINDOW_BYTES
        ):
            self._finish_oldest()

    def _finish_oldest(self) -> None:
        oldest = self._in_flight[0]
        self._store.add(oldest.key, oldest.future.result())
        self._in_flight.popleft()


def _useful_profile(tensor: TensorInput, profile: str) -> str:
    # What `auto` would never choose need not be tried, and is the slowest.
    role = roles_of(tensor.encoding, tensor.parameters)[0]
    too_large = tensor.arrays[role].size > AUTO_WEIGHTS
    return "fast" if profile == "auto" and too_large else profile


def _expectation(tensor: TensorInput, key: str) -> Expectation:
    values = tensor.decode()
    return Expectation(
        name=tensor.name,
        dtype=values.dtype.name,
        shape=values.shape,
        sha256=array_digest(values),
        key=key,
        encoding=tensor.encoding,
    )

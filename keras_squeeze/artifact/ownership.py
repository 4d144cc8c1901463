"""Folders beside a target that belong to one living process at a time.

A writer works in a folder of its own. Who holds the lock on the file `lock` in
it owns the folder; the operating system lets go of it when the process ends,
however it ends. So what a killed writer left behind can be told from what
another one is working on, and removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import weakref
from types import TracebackType

try:
    import fcntl
except ImportError:  # Windows: nothing is owned, and nothing cleared away.
    fcntl = None  # type: ignore[assignment]

_LOCK = "lock"
_ATTEMPTS = 16
# Of the 255 bytes a name may have, what is added to the target's is to fit.
_MOST_NAME_BYTES = 200


class OwnedFolder:
    """A folder that is locked until it is released or removed.

    Args:
        path: String. The folder.
        descriptor: Integer. Of its open and locked lock file.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        _OWNED.add(self)

    def join(self, name: str) -> str:
        """The path of a file in the folder."""
        return os.path.join(self.path, name)

    def release(self) -> None:
        """Lets another process have the folder as it is."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def remove(self) -> None:
        """Removes the folder with all files in it."""
        # The lock goes last: until then nobody else can work in here.
        with contextlib.suppress(OSError):
            for name in os.listdir(self.path):
                if name != _LOCK:
                    _remove(self.join(name))
            # One with files and without a lock would stay for ever.
            if os.listdir(self.path) == [_LOCK]:
                os.unlink(self.join(_LOCK))
                os.rmdir(self.path)
        self.release()

    def __enter__(self) -> OwnedFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()


_OWNED: weakref.WeakSet[OwnedFolder] = weakref.WeakSet()


def _forget_owned() -> None:
    # A forked worker would keep the locks of a parent that was killed.
    for folder in list(_OWNED):
        folder.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_owned)


def temporary_folder(target: str) -> OwnedFolder:
    """Makes a new folder beside a target, for this process alone.

    Args:
        target: String. The file that is to be written.

    Returns:
        `OwnedFolder`, named `.tmp-*`.

    Raises:
        OSError: If it cannot be made.
    """
    for _ in range(_ATTEMPTS):
        path = _beside(target, f".tmp-{secrets.token_hex(4)}-")
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            continue
        # Another writer's `remove_abandoned` may come before the lock.
        with contextlib.suppress(FileNotFoundError):
            folder = _lock_or_remove(path, without_locks=True)
            if folder is not None:
                return folder
    raise FileExistsError(f"{path} and {_ATTEMPTS - 1} others were taken")


def claim(path: str) -> OwnedFolder | None:
    """Makes a folder, or takes over one that no living process owns.

    Args:
        path: String. The folder.

    Returns:
        `OwnedFolder`, or `None` if it is another process's, another user's,
        open to others, or cannot be made.
    """
    for _ in range(_ATTEMPTS):
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            return _lock_or_remove(path) if _is_private(path) else None
        except FileNotFoundError:
            continue  # Its owner removed it this moment.
        except OSError:
            return None
    return None


def parts_path(target: str) -> str:
    """Where the parts of an unfinished file wait: `.NAME.parts`."""
    return _beside(target, ".") + ".parts"


def remove_abandoned(target: str) -> None:
    """Removes what killed writers of a target left behind.

    Folders of writers that still live are left alone, and so are all if the
    file system knows no locks.

    Args:
        target: String. The file that is to be written.
    """
    folder, name = os.path.split(target)
    ending = "-" + _label(name)
    with contextlib.suppress(OSError):
        for found in os.listdir(folder):
            random = found.removeprefix(".tmp-").removesuffix(ending)
            if found == f".tmp-{random}{ending}" and len(random) == 8:
                _remove_if_abandoned(os.path.join(folder, found))


def _remove_if_abandoned(path: str) -> None:
    if fcntl is None or not _is_private(path):
        return
    try:
        os.rmdir(path)  # Killed before its lock was made, else not empty.
    except OSError:
        with contextlib.suppress(OSError):
            folder = _lock(path, create=False)
            if folder is not None:
                folder.remove()


def _is_private(path: str) -> bool:
    """Whether it is a folder, no link, that nobody else can write to."""
    status = os.lstat(path)
    mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    closed = os.name == "nt" or not status.st_mode & 0o022
    return stat.S_ISDIR(status.st_mode) and mine and closed


def _lock_or_remove(
    path: str, without_locks: bool = False
) -> OwnedFolder | None:
    """Locks a folder; one that cannot be locked does not stay empty."""
    try:
        return _lock(path, without_locks=without_locks)
    except OSError:
        # A disk may have room for the folder and none for a file in it.
        with contextlib.suppress(OSError):
            os.rmdir(path)
        raise


def _lock(
    path: str, create: bool = True, without_locks: bool = False
) -> OwnedFolder | None:
    """The folder, owned; `None` if it is another's or cannot be locked."""
    name = os.path.join(path, _LOCK)
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    flags |= os.O_CREAT if create else 0
    descriptor = os.open(name, flags, 0o600)
    try:
        if not _flock(descriptor, without_locks):
            os.close(descriptor)
            return None
        # Its former owner may have removed the file before letting go of it.
        if not os.path.samestat(os.fstat(descriptor), os.lstat(name)):
            raise FileNotFoundError(name)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise
    return OwnedFolder(path, descriptor)


def _flock(descriptor: int, without_locks: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # The file system knows no locks: only what is new is surely ours.
        return without_locks
    return True


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def _beside(target: str, prefix: str) -> str:
    folder, name = os.path.split(target)
    return os.path.join(folder, prefix + _label(name))


def _label(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= _MOST_NAME_BYTES:
        return name
    return hashlib.sha256(encoded).hexdigest()

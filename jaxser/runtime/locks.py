"""Folders that one process holds, or several that share them against everybody else.

    with held(Path("runs/demo"), "trained"):
        ...

filelock has no lock that is shared and works on every system and file system that it locks files
on, so sharing is made of locks that are not: each process that shares a folder holds a file of its
own there, and takes the folder's lock for the moment in which it makes that file. Who wants the
folder alone keeps the folder's lock, and refuses where a file of a living process is there. All
locks end with their process, however it ends.
"""

import errno
import queue
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import filelock

from jaxser.runtime.errors import InputError

__all__ = ["held"]

_LOCK = ".lock"

# Processes that share a folder and begin together wait for each other so long at most.
_SHARING_SECONDS = 10.0

# A file server that has no locks to give may never answer.
_ANSWER_SECONDS = 30.0

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ETIMEDOUT)

# A folder may be removed by who made it between mkdir and the lock.
_TRIES = 3


class _Busy(Exception):
    """Another process has the lock."""


@contextmanager
def held(folder: Path, use: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder, which is made where it is missing, so that two processes never write there.

    A folder that was made here and has nothing in it at the end is removed again.

    Args:
      folder: to hold.
      use: what is done with it, "trained" for instance; for the error.
      shared: hold it with others that share it, too, and keep out those that want it alone.

    Raises:
      InputError: another process holds it, or its file system has no locks.
    """
    with ExitStack() as stack:
        if not folder.exists():
            stack.callback(_remove_if_empty, folder)
        try:
            if shared:
                with _locked(folder / _LOCK, _SHARING_SECONDS):
                    stack.enter_context(_locked(folder / f"{_LOCK}-{secrets.token_hex(8)}"))
            else:
                stack.enter_context(_locked(folder / _LOCK))
                for other in folder.glob(f"{_LOCK}-*"):
                    with _locked(other):
                        pass  # its process is gone, and so is now the file
        except _Busy:
            raise InputError(
                f"{folder} is being {use} by another process; wait for it or give another --out."
            ) from None
        yield


@contextmanager
def _locked(path: Path, seconds: float = 0.0) -> Iterator[None]:
    """Hold a file that exists only as long.

    Args:
      path: in a folder that is made where it is missing.
      seconds: to wait for another process.
    """
    lock = filelock.FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        _acquire(lock, path, seconds)
    except filelock.Timeout:
        raise _Busy from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"the file system of {path.parent} has no locks ({reason}), so that two processes "
            "could spoil each other's files there; give an --out on another disk, or mount this "
            "one with locks."
        ) from None
    try:
        yield
    finally:
        # Before it is given back: whoever has opened this file sees that it is gone and makes
        # another one. Where a file that is open cannot be removed, it stays.
        with suppress(OSError):
            path.unlink()
        lock.release()


def _acquire(lock: filelock.BaseFileLock, path: Path, seconds: float) -> None:
    for tries_left in reversed(range(_TRIES)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _answered(lock, seconds)
        except FileNotFoundError:
            if not tries_left:
                raise


def _answered(lock: filelock.BaseFileLock, seconds: float) -> None:
    """Acquire in another thread, which may be left waiting for a file server for ever."""
    answers: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            lock.acquire(timeout=seconds)
        except BaseException as error:
            answers.put(error)
        else:
            answers.put(None)

    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=seconds + _ANSWER_SECONDS)
    except queue.Empty:
        raise OSError(
            errno.ETIMEDOUT, f"no answer to a lock in {_ANSWER_SECONDS:g} s", str(lock.lock_file)
        ) from None
    if error is not None:
        raise error


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()

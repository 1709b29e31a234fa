"""Files that a user names, read only where they are regular files.

    data = read_regular("mine/table.csv")

A pipe would be waited for, and a device such as ``/dev/zero`` never ends; neither is opened for
reading. What is read is as long as the file is.
"""

import errno
import os
import stat
from pathlib import Path

from jaxser.runtime.errors import InputError

__all__ = ["NOT_THE_FILES_FAULT", "UnreadableFileError", "read_regular"]

# The process or the machine has run out of something; the file may well be sound.
NOT_THE_FILES_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR})

# Windows would translate line ends.
_BINARY = getattr(os, "O_BINARY", 0)


class UnreadableFileError(InputError):
    """A file that is missing, is none, or may not be read.

    Attributes:
      path: the file.
      reason: half a sentence.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}.")
        self.path = Path(path)
        self.reason = reason


def read_regular(path: Path | str) -> bytes:
    """Content of a regular file.

    Raises:
      UnreadableFileError: it is missing, a folder, a pipe, a device, or cannot be read.
      OSError: this process has no memory or too many open files.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    except ValueError as error:
        raise UnreadableFileError(
            str(path).replace("\0", "\\0"), "no file has a NUL character in its name"
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise UnreadableFileError(path, f"it is {kind}, not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)


def _unreadable(path: Path | str, error: OSError) -> UnreadableFileError:
    if error.errno in NOT_THE_FILES_FAULT:
        raise error
    if error.errno == errno.ENOENT:
        return UnreadableFileError(path, "there is no such file")
    return UnreadableFileError(path, f"it cannot be read ({error.strerror})")

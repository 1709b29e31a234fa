"""Errors that a user can mend, and how the commands report them.

A wrong path, label, shape, config key or damaged file raises :class:`InputError`, whose
message is one sentence: what is wrong, where, and what to do. Commands print it without a
traceback and leave with its ``exit_status``. What the operating system refuses, whatever it is, is
one sentence, too, and so is a device that JAX cannot start. Anything else is a defect and keeps
its traceback.
"""

import contextlib
import difflib
import errno
import logging
import os
import select
import signal
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from jaxser.runtime.signals import stopping
from jaxser.runtime.stages import clear
from jaxser.runtime.text import accept_all_text, cut, one_line, visible

__all__ = ["InputError", "UsageError", "nearest_name", "report_errors", "stopped_status"]


class InputError(ValueError):
    """Data, a file or a folder that the user gave is wrong; the message is one sentence."""

    exit_status = 1


class UsageError(InputError):
    """The command line or the config asks for something that does not exist."""

    exit_status = 2


# Names in a message: more than any command has flags of one kind, fewer than a corpus has files.
_LISTED = 40


def nearest_name(name: str, valid: Iterable[str]) -> str:
    """A hint for an unknown ``name``: "did you mean 'X'?", or the list of valid names."""
    names = sorted(valid)
    name = cut(name)
    folded = {each.casefold(): each for each in names}
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    # Nobody remembers what is written in capitals.
    close = close or difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    if close:
        return f"did you mean {folded.get(close[0], close[0])!r}?"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"valid names are {', '.join(names[:_LISTED])}{more}"


def stopped_status(error: KeyboardInterrupt) -> int:
    """Exit status of a command that a signal ended, as a shell reports it: 130 for Ctrl-C."""
    return getattr(error, "exit_status", 128 + signal.SIGINT)


_AGAIN = "run the same command again, it goes on from what was saved"

# What to do about some errors of the operating system; all others have _MEND.
_ADVICE = {
    errno.ENOSPC: f"free some space and {_AGAIN}",
    errno.EDQUOT: f"free some space and {_AGAIN}",
    errno.EFBIG: f"raise the limit (ulimit -f) and {_AGAIN}",
    errno.EROFS: "give a folder that can be written",
    errno.EACCES: "give a path that you may read and write, or change its permissions",
    errno.EPERM: "give a path that you may read and write, or change its permissions",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ENOTDIR: "a part of that path is a file, so give another path",
    errno.EISDIR: "give a file",
    errno.EEXIST: "give another path",
    errno.ENOENT: "check the path",
    errno.ELOOP: "its links lead in a circle, so mend them or give another path",
    errno.EMFILE: f"raise the number of open files (ulimit -n) and {_AGAIN}",
    errno.ENFILE: f"raise the number of open files (ulimit -n) and {_AGAIN}",
}
_MEND = f"mend that and {_AGAIN}"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def report_errors(command: Callable[[], int | None]) -> int:
    """Run ``command`` and return its exit status; user errors become one line on stderr.

    Warnings, of libraries as well, are one line each, and so are Ctrl-C, SIGTERM, SIGHUP and
    whatever the operating system refuses: every writer here writes to a temporary name first, so
    nothing that was whole before is lost. A reader that has seen enough of the output ("| head")
    ends a command without a word. Text that a terminal's encoding lacks is written in ASCII.
    """
    accept_all_text()
    logging.basicConfig(format="warning: %(message)s")
    warnings.formatwarning = _warning_line
    try:
        status = _run(command)
    except SystemExit:  # --help, which is printed by now
        _run(_flush)
        raise
    # What waits in the buffer is written here, where a failure can be told, and not at the exit.
    return _run(_flush) or status


def _run(command: Callable[[], int | None]) -> int:
    try:
        with stopping():
            return command() or 0
    except InputError as error:
        _tell(f"error: {error}")
        return error.exit_status
    except KeyboardInterrupt as error:
        _tell("interrupted; the same command goes on from what was saved.")
        return stopped_status(error)
    except OSError as error:
        if not (isinstance(error, BrokenPipeError) and _is_unread()):
            _tell(f"error: {_refusal(error)}.")
        _forget_output()
        return 1
    except UnicodeEncodeError as error:
        letters = error.object[error.start : error.end]
        _tell(
            f"error: {cut(letters)!r} in {cut(error.object)!r} cannot be written as "
            f"{error.encoding}; rename it, or set PYTHONUTF8=1 in the environment."
        )
        return 1
    except MemoryError as error:
        _tell(f"error: the memory is used up ({one_line(error)}); ask for less at a time.")
        return 1
    except (RuntimeError, AssertionError):
        # Late, as most commands need JAX after some time, and some never do.
        from jaxser.runtime.devices import check_devices

        if "jax" not in sys.modules:
            raise
        try:
            check_devices()
        except InputError as error:
            _tell(f"error: {error}")
            return error.exit_status
        raise


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {one_line(message)}\n"


def _refusal(error: OSError) -> str:
    """What the operating system refused, where, and what to do."""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if _is_name(name)]
    where = cut(" and ".join(names), 200)
    if error.errno in _FULL:
        return (
            f"the disk is full{f' while writing {where}' if where else ''}; {_ADVICE[error.errno]}"
        )
    if error.errno == errno.ENOENT and not _has_working_folder():
        return (
            f"{where or 'a path'} cannot be found, as the working folder was deleted; change to a "
            "folder that is there"
        )
    # Libraries put texts of their own there, with the name of a temporary file for one.
    known = error.errno in errno.errorcode
    reason = os.strerror(error.errno or 0) if known else one_line(error.strerror or error)
    what = f"{where}: {reason}" if where else reason
    return f"{what}; {_ADVICE.get(error.errno or 0, _MEND)}"


def _is_name(name: object) -> bool:
    return isinstance(name, str | bytes | os.PathLike)


def _has_working_folder() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _tell(sentence: str) -> None:
    try:
        clear()
        print(visible(sentence), file=sys.stderr, flush=True)
    except OSError:
        # Nobody reads it any more, and the exit status says that something was wrong.
        _forget(sys.stderr)


def _flush() -> None:
    if sys.stdout is not None:  # as after ">&-"
        sys.stdout.flush()


def _is_unread() -> bool:
    """Whether stdout or stderr leads to a reader that is gone."""
    if not hasattr(select, "poll"):  # Windows
        return True
    pipes = select.poll()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError):  # what a program has put there has no descriptor
            pipes.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in pipes.poll(0))


def _forget_output() -> None:
    """Let go what waits in a buffer and cannot be written, or Python tries again at the exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            _forget(stream)


def _forget(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

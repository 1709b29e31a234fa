"""Errors that a user can mend, and how the commands report them.

A wrong path, label, shape, config key or damaged file raises :class:`InputError`, whose
message is one sentence: what is wrong, where, and what to do. Commands print it without a
traceback and leave with its ``exit_status``. Anything else is a defect and keeps its traceback.
"""

import difflib
import errno
import logging
import signal
import sys
from collections.abc import Callable, Iterable

from jaxser.runtime.signals import stopping

__all__ = ["InputError", "UsageError", "nearest_name", "report_errors", "stopped_status"]


class InputError(ValueError):
    """Data, a file or a folder that the user gave is wrong; the message is one sentence."""

    exit_status = 1


class UsageError(InputError):
    """The command line or the config asks for something that does not exist."""

    exit_status = 2


def nearest_name(name: str, valid: Iterable[str]) -> str:
    """A hint for an unknown ``name``: "did you mean 'X'?", or the list of valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "valid names are " + ", ".join(names)


def stopped_status(error: KeyboardInterrupt) -> int:
    """Exit status of a command that a signal ended, as a shell reports it: 130 for Ctrl-C."""
    return getattr(error, "exit_status", 128 + signal.SIGINT)


def report_errors(command: Callable[[], int | None]) -> int:
    """Run ``command`` and return its exit status; user errors become one line on stderr.

    Warnings that are logged are one line each, too, and so are Ctrl-C, SIGTERM and SIGHUP.

    A full disk is reported too: it is nobody's defect, and every writer here writes to a
    temporary name first, so nothing that was whole before is lost.
    """
    logging.basicConfig(format="warning: %(message)s")
    try:
        with stopping():
            return command() or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt as error:
        print("interrupted; the same command goes on from what was saved.", file=sys.stderr)
        return stopped_status(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        print(
            f"error: the disk is full{where}; free some space and run the same command again, "
            "it goes on from what was saved.",
            file=sys.stderr,
        )
        return 1

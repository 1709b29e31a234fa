"""Signals that ask a command to stop: Ctrl-C, SIGTERM (a scheduler) and SIGHUP (a lost terminal).

    with stopping():                             # once, around a command: Stopped is raised
        with requested() as stop:                # around what can end in good order
            while not stop.is_set(): ...

A signal that the user has had ignored (``nohup``) or that another library handles stays as it is.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["StopRequest", "Stopped", "requested", "stopping"]

_Handler = Callable[[int, FrameType | None], Any]

# SIGHUP is not known everywhere.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal has ended the command.

    Attributes:
      exit_status: as a shell reports a process that this signal ended.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number


class StopRequest(threading.Event):
    """Set by the first signal.

    Attributes:
      number: of that signal; 0 before.
    """

    number = 0

    def raise_if_set(self) -> None:
        """Raise Stopped where a signal has come."""
        if self.is_set():
            raise Stopped(self.number)


@contextmanager
def stopping() -> Iterator[None]:
    """Signals raise :class:`Stopped` in here."""
    with _handled(_raise):
        yield


@contextmanager
def requested() -> Iterator[StopRequest]:
    """A request that the first signal sets; the second one ends the command at once."""
    request = StopRequest()

    def ask(number: int, _: FrameType | None) -> None:
        if request.is_set():
            raise Stopped(number)
        request.number = number
        request.set()

    with _handled(ask):
        yield request


def _raise(number: int, _: FrameType | None) -> None:
    raise Stopped(number)


@contextmanager
def _handled(handler: _Handler) -> Iterator[None]:
    before = {}
    # Python lets the main thread alone handle signals.
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        before = {number: old for number, old in before.items() if _is_ours(old)}
    # Marked, so that an inner use knows that it may take over.
    handler.jaxser = True  # type: ignore[attr-defined]
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _is_ours(handler: Any) -> bool:
    return handler in (signal.SIG_DFL, signal.default_int_handler) or hasattr(handler, "jaxser")

"""Work in a thread of its own, in the order in which it is given, while the giver goes on.

with InOrder(most_waiting=4) as writer:
    writer.give(write, path, samples)            # returns at once, or when there is room
# All of it is done here.
"""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["InOrder"]


class InOrder:
    """One thread that does what it is given.

    What it raises is raised where the next thing is given, or at the end; nothing that was given
    later is done then. What was given is done, too, where the giver ends with an error of its own.

    Args:
      most_waiting: things that wait for the thread; giving more waits for it.
    """

    def __init__(self, most_waiting: int) -> None:
        self._waiting: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]] | None]
        self._waiting = queue.Queue(most_waiting)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "InOrder":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def give(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have ``function(*arguments)`` called after all that was given before.

        Raises:
          BaseException: what the thread has met.
        """
        self._raise()
        self._waiting.put((function, arguments))

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (task := self._waiting.get()) is not None:
            if self._error is not None:
                continue
            function, arguments = task
            try:
                function(*arguments)
            except BaseException as error:
                self._error = error

"""What all processes that train one network do alike, though each has its own clock and signals.

state = first_update(update, state, batch)
due, stopped = alike_in_all(step, late, stop, ends)
"""

from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxser.runtime.signals import StopRequest
from jaxser.runtime.together import agreed, are_several, is_first, meet
from jaxser.training.update import Update

__all__ = ["StopFlag", "alike_in_all", "first_update"]

S = TypeVar("S")

# Updates after which they tell each other: each time they wait for the slowest.
_STEPS_BETWEEN = 10


@runtime_checkable
class StopFlag(Protocol):
    def is_set(self) -> bool: ...


def alike_in_all(step: int, late: bool, stop: StopFlag, ends: bool) -> tuple[bool, bool]:
    """(whether a checkpoint is due, whether to stop), after an update.

    One that stopped alone would let the others wait for it for ever, so all stop where one is told
    to, at the next step at which they talk.

    Args:
      step: number of the update.
      late: whether a checkpoint is due by this process' clock; that of process 0 counts.
      stop: of this process.
      ends: whether the update ends an epoch.
    """
    if not are_several():
        return late, stop.is_set()
    if not ends and step % _STEPS_BETWEEN:
        return False, False
    due, number = agreed(late and is_first(), getattr(stop, "number", 0))
    if number and isinstance(stop, StopRequest):
        stop.number = number
        stop.set()
    return bool(due), stop.is_set()


def first_update(update: Update[S], state: S, batch: Any) -> S:
    """The state after it.

    Processes compile apart and meet before their devices do, which do not wait for a compiler.
    """
    update.prepare(state, batch)
    meet()
    return update(state, batch)

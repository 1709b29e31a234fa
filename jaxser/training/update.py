"""What a training calls for every batch: compiled programs, which take over the state's buffers.

update = UpdateWith(program, epsilon)            # program(state, batch, epsilon)
update.prepare(state, batch)
state = update(state, batch)
"""

from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

__all__ = ["Update", "UpdateProgram", "UpdateWith"]

S = TypeVar("S")


@runtime_checkable
class Update(Protocol[S]):
    """``(state, batch) -> state``."""

    def prepare(self, state: S, batch: Any, /) -> None:
        """Compile all that a call needs, for arguments like these."""
        ...

    def __call__(self, state: S, batch: Any, /) -> S: ...


@runtime_checkable
class UpdateProgram(Protocol):
    """``(state, batch, *others) -> state``; a :class:`jaxser.driver.ahead_of_time.Program`, or
    several."""

    def prepare(self, *arguments: Any) -> None: ...

    def __call__(self, *arguments: Any) -> Any: ...


class UpdateWith(Generic[S]):
    """An update that gives its program the same things in every call.

    They are arguments, as what a program closes over would be constants in it.

    Args:
      program: of the state, the batch and ``others``.
      *others: such as the variables of threat models.
    """

    def __init__(self, program: UpdateProgram, *others: Any) -> None:
        self._program, self._others = program, others

    def prepare(self, state: S, batch: Any) -> None:
        self._program.prepare(state, batch, *self._others)

    def __call__(self, state: S, batch: Any) -> S:
        after: S = self._program(state, batch, *self._others)
        return after

"""Programs of the next cells of a sweep, compiled in threads while the present one runs.

with CompileAhead() as ahead:
    ahead.give(run)                              # of what it lacks; returns at once
"""

import concurrent.futures
from collections.abc import Iterator
from types import TracebackType

from jaxser.driver.ahead_of_time import Program
from jaxser.driver.plan import planned_programs
from jaxser.driver.program_shapes import Arguments
from jaxser.experiments.run import Run
from jaxser.runtime.cores import available_cores

__all__ = ["CompileAhead", "programs_of"]

# More than that would compile what is needed in hours before what is needed next.
_MOST_THREADS = 8


def programs_of(run: Run, most_members: int | None = None) -> Iterator[tuple[Program, Arguments]]:
    """What a run will compile for the rows that it lacks.

    Args:
      run: prepared.
      most_members: see :func:`planned_programs`.
    """
    missing = run.missing()
    if missing.any():
        yield from planned_programs(
            run.speech.victim,
            run.attack,
            utterances=int(missing.any(axis=1).sum()),
            epsilons=int(missing.any(axis=0).sum()),
            batch_size=run.config.batch_size,
            most_members=most_members,
        )


class CompileAhead:
    """Threads that compile.

    What cannot be compiled says so where it is run. At the end, what is being compiled is waited
    for: a thread of the compiler cannot be stopped.
    """

    def __init__(self) -> None:
        threads = max(1, min(_MOST_THREADS, available_cores() - 1))
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, "compile")

    def __enter__(self) -> "CompileAhead":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def give(self, run: Run) -> None:
        """Have the programs of a run compiled; of an attack sequence those of the first member, as
        nobody knows yet how many rows the others find."""
        self._threads.submit(self._plan, run)

    def _plan(self, run: Run) -> None:
        for program, arguments in programs_of(run, most_members=1):
            if not program.ready:
                self._threads.submit(program.prepare, *arguments)

"""The folder of a sweep, which its processes hold together and against everybody else.

with held_sweep(config, share):
    ...                                              # rows, and what became of every cell
"""

import contextlib
from collections.abc import Iterator

from jaxser.config.sweep import SweepConfig
from jaxser.results.outcomes import forget_outcomes
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.files import remove_strays
from jaxser.runtime.locks import held
from jaxser.runtime.sharding import Share, leave_processes, same_everywhere

__all__ = ["held_sweep"]


@contextlib.contextmanager
def held_sweep(config: SweepConfig, share: Share) -> Iterator[None]:
    """Hold the sweep's folder, together with the other processes and against everybody else.

    Process 0 has it alone first, so that nobody else is in it, and then lets the others in.

    Raises:
      InputError: another sweep has it, or process 0 could not have it.
      UsageError: process 0 was given another sweep.
    """
    out = config.out
    with contextlib.ExitStack() as stack:
        refused: InputError | None = None
        if share.index == 0:
            try:
                with held(out, "swept"):
                    remove_strays(out)
                    forget_outcomes(out)
                stack.enter_context(held(out, "swept", shared=share.count > 1))
            except InputError as error:
                refused = error
        if share.count > 1:
            first = same_everywhere(share, "" if refused else repr(config))
            leave_processes()
            if share.index > 0 and not first:
                raise InputError(f"process 0 may not sweep {out}; it says why.")
            if share.index > 0 and first != repr(config):
                raise UsageError(
                    f"process {share.index} was given another sweep than process 0; start all "
                    "with the same file and flags."
                )
            if share.index > 0:
                stack.enter_context(held(out, "swept", shared=True))
        if refused:
            raise refused
        yield

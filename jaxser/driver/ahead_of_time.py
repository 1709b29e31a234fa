"""Functions compiled ahead of time, so that compilation can be told from running.

step = Program(function, donate=(0,))
state = step(state)                              # compiled at the first call, and noted
compile_seconds(), compile_count()               # of the process so far
"""

import time
from collections.abc import Callable
from typing import Any, ClassVar

import jax

from jaxser.runtime.errors import InputError
from jaxser.runtime.numerics import fixed_numerics

__all__ = ["Program", "compile_count", "compile_seconds"]


def compile_seconds() -> float:
    """Seconds that this process has spent on tracing and compiling the programs so far."""
    return Program.total_seconds


def compile_count() -> int:
    """Programs that this process has compiled so far."""
    return Program.total_count


class Program:
    """A function that is compiled ahead of time on its first call, with the time noted.

    ``jax.jit`` compiles inside the first call, where compilation cannot be told from running, and
    would quietly compile again for other shapes. This takes one set of shapes and refuses others.
    It computes in 32 bits and draws the same random numbers whatever JAX is set to.

    Args:
      function: pure, of arrays.
      donate: positions of the arguments whose buffers the results may take over.
      **options: of ``jax.jit``.
    """

    total_seconds: ClassVar[float] = 0.0
    total_count: ClassVar[int] = 0

    def __init__(
        self, function: Callable[..., Any], donate: tuple[int, ...] = (), **options: Any
    ) -> None:
        self._jitted = jax.jit(function, donate_argnums=donate, **options)
        self._compiled: Any = None

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            self._compiled = self._compile(*arguments)
        with fixed_numerics():
            return self._compiled(*arguments)

    def bytes_needed(self, *shapes: Any) -> int:
        """Device memory of a call with arguments of such shapes: theirs, the results', the rest."""
        analysis = self._compile(*shapes).memory_analysis()
        return int(
            analysis.argument_size_in_bytes
            + analysis.output_size_in_bytes
            + analysis.temp_size_in_bytes
        )

    def result_shapes(self, *shapes: Any) -> Any:
        """Shapes of the results, found without compiling."""
        with fixed_numerics():
            return jax.eval_shape(self._jitted, *shapes)

    def _compile(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        with fixed_numerics():
            try:
                compiled = self._jitted.lower(*arguments).compile()
            except ValueError as error:
                if "Reverse-mode differentiation" not in str(error):
                    raise
                # Nothing but the victim has loops that an attack differentiates.
                raise InputError(
                    "the victim has no gradient, as it loops by jax.lax.while_loop or a fori_loop "
                    "of traced length; use jax.lax.scan in it, or an attack without gradients."
                ) from error
        Program.total_seconds += time.perf_counter() - start
        Program.total_count += 1
        return compiled

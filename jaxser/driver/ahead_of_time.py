"""Functions compiled ahead of time, so that compilation can be told from running.

step = Program(function, donate=(0,))
state = step(state)                              # compiled at the first call, and noted
step.prepare(shapes)                             # or before it, from shapes alone, in any thread
compile_seconds(), compile_count()               # of the calling thread so far
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from jaxser.runtime.errors import InputError
from jaxser.runtime.numerics import fixed_numerics

__all__ = ["Program", "compile_count", "compile_seconds"]

# Tracing is Python, which runs in one thread at a time anyway; compilation is not.
_TRACING = threading.RLock()


class _Spent(threading.local):
    """By each thread apart: what one compiles for later holds up no other."""

    seconds = 0.0
    count = 0


_SPENT = _Spent()


def compile_seconds() -> float:
    """Seconds that this thread has spent so far on tracing and compiling programs, and on waiting
    for those that another thread was at."""
    return _SPENT.seconds


def compile_count() -> int:
    """Programs that this thread has compiled so far."""
    return _SPENT.count


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

    def __init__(
        self, function: Callable[..., Any], donate: tuple[int, ...] = (), **options: Any
    ) -> None:
        self._jitted = jax.jit(function, donate_argnums=donate, **options)
        self._compiled: Any = None
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            self.prepare(*arguments)
        with fixed_numerics():
            return self._compiled(*arguments)

    @property
    def ready(self) -> bool:
        """Whether it is compiled."""
        return self._compiled is not None

    def prepare(self, *arguments: Any) -> None:
        """Compile it, unless it is compiled; where another thread is at it, wait for that.

        Args:
          *arguments: of its calls, or their shapes with the shardings that they will have.
        """
        start = time.perf_counter()
        with self._lock:
            if self._compiled is None:
                self._compiled = self._compile(*arguments)
                _SPENT.count += 1
        _SPENT.seconds += time.perf_counter() - start

    def bytes_needed(self, *shapes: Any) -> int:
        """Device memory of a call with arguments of such shapes: theirs, the results', the rest;
        what is donated counts once.

        It is compiled for them, so that the calls that follow find it compiled.
        """
        self.prepare(*shapes)
        analysis = self._compiled.memory_analysis()
        return int(
            analysis.argument_size_in_bytes
            + analysis.output_size_in_bytes
            + analysis.temp_size_in_bytes
            - analysis.alias_size_in_bytes
        )

    def text(self) -> str:
        """The compiler's last word on it, once it is compiled."""
        return str(self._compiled.as_text())

    def result_shapes(self, *shapes: Any) -> Any:
        """Shapes of the results, found without compiling."""
        with _TRACING, fixed_numerics():
            return jax.eval_shape(self._jitted, *shapes)

    def traced(self, *arguments: Any) -> Any:
        """Its operations as JAX has them (a ``jax.stages.Traced``); arguments as of
        :meth:`prepare`."""
        with _TRACING, fixed_numerics():
            return self._jitted.trace(*arguments)

    def lowered(self, *arguments: Any) -> Any:
        """It as the compiler is given it; arguments as of :meth:`prepare`."""
        with _TRACING, fixed_numerics():
            return self._jitted.lower(*arguments)

    def _compile(self, *arguments: Any) -> Any:
        with fixed_numerics():
            try:
                return self.lowered(*arguments).compile()
            except ValueError as error:
                if "Reverse-mode differentiation" not in str(error):
                    raise
                # Nothing but the victim has loops that an attack differentiates.
                raise InputError(
                    "the victim has no gradient, as it loops by jax.lax.while_loop or a fori_loop "
                    "of traced length; use jax.lax.scan in it, or an attack without gradients."
                ) from error

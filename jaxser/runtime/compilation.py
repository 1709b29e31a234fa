"""JAX's persistent compilation cache, on by default in every command, and what compiling takes."""

import logging
import threading
import time
from typing import Any

import jax
import jax.monitoring

from jaxser.runtime.errors import InputError
from jaxser.runtime.files import cache_folder, check_writable
from jaxser.runtime.text import one_line

__all__ = ["enable_compilation_cache", "seconds_in_compiler"]

_LOG = logging.getLogger(__name__)

# What JAX reports of tracing, lowering and compiling.
_COMPILING = "/jax/core/compile/"


class _Spans(threading.local):
    """When this thread compiled: (from, to) in seconds, none within another."""

    def __init__(self) -> None:
        self.found: list[tuple[float, float]] = []


_SPANS = _Spans()


def _note(event: str, duration_secs: float, **_: Any) -> None:
    if not event.startswith(_COMPILING):
        return
    end, spans = time.monotonic(), _SPANS.found
    start = end - duration_secs
    # What a function calls is traced within it, and reported before it.
    while spans and spans[-1][0] >= start:
        spans.pop()
    spans.append((start, end))


jax.monitoring.register_event_duration_secs_listener(_note)


def seconds_in_compiler() -> float:
    """Seconds that this thread has spent so far on tracing and compiling, of whatever program.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from jaxser.runtime.compilation import seconds_in_compiler
      >>> before, double = seconds_in_compiler(), jax.jit(lambda x: x + x)
      >>> x = double(jnp.ones(3))
      >>> compiled = seconds_in_compiler()
      >>> x = double(x)
      >>> before < compiled == seconds_in_compiler()
      True
    """
    return sum(end - start for start, end in _SPANS.found)


def enable_compilation_cache() -> None:
    """Keep compiled programs between runs, unless the user has set a cache of their own.

    Where they cannot be kept, a warning says so and every run compiles its own.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    try:
        folder = cache_folder() / "compiled"
        check_writable(folder)
    except (InputError, OSError) as error:
        _LOG.warning(
            "compiled programs cannot be kept (%s), so every run compiles its own; name another "
            "folder with the environment variable JAXSER_CACHE",
            one_line(error),
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

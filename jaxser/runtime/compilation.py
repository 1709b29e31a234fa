"""JAX's persistent compilation cache, on by default in every command."""

import logging

import jax

from jaxser.runtime.errors import InputError
from jaxser.runtime.files import cache_folder, check_writable
from jaxser.runtime.text import one_line

__all__ = ["enable_compilation_cache"]

_LOG = logging.getLogger(__name__)


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

"""JAX's persistent compilation cache, on by default in every command."""

import jax

from jaxser.runtime.files import cache_folder

__all__ = ["enable_compilation_cache"]


def enable_compilation_cache() -> None:
    """Keep compiled programs between runs, unless the user has set a cache of their own."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

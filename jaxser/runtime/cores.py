"""How many cores there are to work with."""

import os

__all__ = ["available_cores"]


def available_cores() -> int:
    """Cores that this process may use; JAX has as many threads on a CPU."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

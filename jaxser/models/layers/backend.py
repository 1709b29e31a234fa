"""Which of two forms of a computation a backend wants."""

import jax

__all__ = ["on_cpu"]


def on_cpu() -> bool:
    """Whether forms of a computation are wanted that are fast on a CPU, where two are known.

    Each layer that has two forms asks for itself, while it is traced, so a compiled program holds
    one of them. Both compute the same, but for the order of sums.
    """
    return jax.default_backend() == "cpu"

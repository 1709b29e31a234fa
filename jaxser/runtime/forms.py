"""For which platform a computation is traced, where two forms of it are known.

    if on_cpu(): ...                       # in a layer, while it is traced
    with forms_for("gpu"): ...             # whatever the devices of this process are

Each layer that has two forms asks for itself, so a compiled program holds one of them. Both compute
the same, but for the order of sums.
"""

import contextlib
from typing import Literal

import jax

__all__ = ["Platform", "forms_for", "on_cpu", "on_gpu"]

Platform = Literal["cpu", "gpu", "tpu"]

# Part of what JAX finds traces and compiled programs by, so that none serves another platform.
_chosen = jax.make_user_context()


def forms_for(platform: Platform) -> contextlib.AbstractContextManager[None]:
    """Forms for a platform that may be another than JAX's default, within this thread.

    Those of an accelerator run on a CPU as well: tests compare them, and programs are compiled for
    devices that are not at hand. A compiled program keeps the forms that it was traced with.
    """
    context: contextlib.AbstractContextManager[None] = _chosen(platform)
    return context


def on_cpu() -> bool:
    """Whether the forms are wanted that are fast on a CPU."""
    return _platform() == "cpu"


def on_gpu() -> bool:
    """Whether the program is for a GPU."""
    return _platform() == "gpu"


def _platform() -> str:
    return _chosen.value or jax.default_backend()

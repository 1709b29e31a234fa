"""Processes that compute one thing together, as those that train one network on several hosts.

    if is_first(): write(...)
    prepared = first_alone(lambda: select(config.corpus))    # by the others after process 0
    number = agreed(stop.number)                             # the largest that any process has
    figures = as_first({"val_loss": 0.7})                    # what process 0 found

They have joined by :func:`jaxser.runtime.sharding.join_processes` and not left: all devices are one
JAX's, and each process runs the same programs in the same order. In one process all of this is
nothing.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from jaxser.runtime.errors import InputError
from jaxser.runtime.sharding import told_by_first, told_to_others, wait_for_all

__all__ = ["agreed", "are_several", "as_first", "first_alone", "is_first", "meet", "wait_for_first"]

Result = TypeVar("Result")

# What process 0 does alone may take hours, as the preparation of a corpus does.
_SECONDS = 24 * 3600

_NUMBERS = itertools.count()


def are_several() -> bool:
    """Whether other processes compute with this one."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether it is this process that writes."""
    return jax.process_index() == 0


def first_alone(act: Callable[[], Result]) -> Result:
    """What ``act`` returns, which process 0 is through with before the others begin.

    Raises:
      InputError: in the others, where process 0 failed.
    """
    if not are_several():
        return act()
    key = f"jaxser/first_alone/{next(_NUMBERS)}"
    if is_first():
        try:
            result = act()
        except BaseException:
            told_to_others(key, "failed")
            raise
        told_to_others(key, "done")
        return result
    if told_by_first(key, _SECONDS) != "done":
        raise InputError(f"process 0 failed, so process {jax.process_index()} ends; it says why.")
    return act()


def wait_for_first() -> None:
    """Until process 0 has come here, too, and has written what it had to write."""
    first_alone(lambda: None)


def meet() -> None:
    """Wait for all, and then let their devices find each other: these wait for half a minute, while
    processes may have been apart by much more."""
    if are_several():
        from jax.experimental import multihost_utils

        wait_for_all(f"jaxser/meet/{next(_NUMBERS)}", _SECONDS)
        multihost_utils.sync_global_devices("jaxser/meet")
        agreed(0)


def agreed(*numbers: int) -> list[int]:
    """The largest of each that any process has; all must ask at the same time."""
    if not are_several():
        return list(numbers)
    from jax.experimental import multihost_utils

    gathered: Any = multihost_utils.process_allgather(np.asarray(numbers, np.int32))
    return [int(number) for number in np.asarray(gathered).reshape(-1, len(numbers)).max(axis=0)]


def as_first(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures of process 0: those of others, of another device, may differ in the last bit.

    What is decided by them, such as the end of a training, is then the same in all.
    """
    if not are_several():
        return dict(figures)
    key = f"jaxser/as_first/{next(_NUMBERS)}"
    if is_first():
        told_to_others(key, json.dumps(dict(figures), default=float))
    told: dict[str, float] = json.loads(told_by_first(key, _SECONDS))
    return told

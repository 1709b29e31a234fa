"""How annotations of arrays, their shapes and types included, are checked while tests run.

    pytest --jaxtyping-packages jaxser,typechecking.checked

A NumPy array will do where an array is asked for, as JAX takes it for one. Fields of dataclasses
are not checked, as JAX fills pytrees with whatever it maps over; nor are annotations of anything
but arrays, which mypy has read and some tests break on purpose.
"""

import typing
from collections.abc import Callable
from typing import Any

import jax
import jaxtyping
import numpy as np
from beartype import BeartypeConf, beartype

# Read by the package's own ``from jaxtyping import Array``, which come later.
jaxtyping.Array = jax.Array | np.ndarray

_BEARTYPE = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with its annotations of arrays checked at every call."""
    if function.__name__ == "__init__":
        return function
    shaped = {name: kind for name, kind in function.__annotations__.items() if _of_array(kind)}
    if not shaped:
        return function
    function.__annotations__ = shaped
    made: Callable[..., Any] = _BEARTYPE(function)
    return made


def _of_array(kind: Any) -> bool:
    """Whether an annotation says something of the shape or the type of an array."""
    if isinstance(kind, type) and issubclass(kind, jaxtyping.AbstractArray):
        return True
    return any(map(_of_array, typing.get_args(kind)))

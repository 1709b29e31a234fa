"""What numbers depend on beside their inputs: JAX's settings, and the key that a seed stands for.

    with fixed_numerics():
        compiled = jax.jit(function).lower(*arguments).compile()
    key = seed_key(2**32 + 1)                      # another one than that of seed 1

A program may have switched JAX to 64 bits, or to another generator of random numbers, for reasons
of its own. A seed stands for the same rows there as everywhere.
"""

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jaxser.runtime.errors import UsageError

__all__ = ["fixed_numerics", "seed_key", "without_64_bits"]

_NARROWER = {
    np.dtype(wide): np.dtype(narrow)
    for wide, narrow in (
        ("float64", "float32"),
        ("int64", "int32"),
        ("uint64", "uint32"),
        ("complex128", "complex64"),
    )
}

# What :func:`fixed_numerics` sets by functions of JAX of these names; mostly it is so already.
_FIXED = {
    "enable_x64": False,
    "numpy_dtype_promotion": "standard",
    "threefry_partitionable": True,
    "default_prng_impl": "threefry2x32",
    "debug_nans": False,
    "debug_infs": False,
}

# As row files hold it: a signed integer of 64 bits.
_SEED_BITS = 63


@contextlib.contextmanager
def fixed_numerics() -> Iterator[None]:
    """JAX's own defaults for all that decides dtypes and random numbers, within this thread.

    Its search for NaN is off: attacks look at what a NaN means for its row, and flag it, and a
    measure that is undefined is NaN.
    """
    # Ten microseconds that every call of a program would take.
    if all(getattr(jax.config, f"jax_{name}") == value for name, value in _FIXED.items()):
        yield
        return
    with contextlib.ExitStack() as settings:
        for name, value in _FIXED.items():
            settings.enter_context(getattr(jax, name)(value))
        yield


def without_64_bits(tree: Any) -> Any:
    """``tree`` with its arrays of 64 bits as those of 32, as :func:`fixed_numerics` has them."""

    def narrow(leaf: Any) -> Any:
        dtype = getattr(leaf, "dtype", None)
        if dtype not in _NARROWER:
            return leaf
        return np.asarray(leaf).astype(_NARROWER[dtype])

    return jax.tree.map(narrow, tree)


def seed_key(seed: int) -> Key[Array, ""]:
    """The key that all randomness of ``seed`` comes from.

    Raises:
      UsageError: no whole number, or one that is negative or over 63 bits long.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise UsageError(f"a seed must be a whole number, not {str(seed)[:80]!r}.") from None
    if not 0 <= number < 2**_SEED_BITS:
        raise UsageError(
            f"a seed must be from 0 to 2**{_SEED_BITS} - 1, and this one is "
            f"{'negative' if number < 0 else 'larger'}."
        )
    # jax.random.key leaves out the upper half where 64 bits are off: 2**32 would be 0.
    data = jnp.asarray(np.array([number >> 32, number % 2**32], np.uint32))
    return jax.random.wrap_key_data(data, impl="threefry2x32")

"""What the device can do at best: products in half precision, copies, launches of kernels.

ceilings = measured_ceilings(device)
ceilings.tflop_per_s, ceilings.copy_gb_per_s, ceilings.launch_us
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Ceilings", "measured_ceilings", "seconds_each", "seconds_of_calls"]

_SECONDS = 0.3


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """Of one device.

    Attributes:
      tflop_per_s: of a large product of bfloat16 with sums in float32.
      copy_gb_per_s: bytes read and written by a copy.
      launch_us: of one more small kernel in a compiled loop.
      call_us: of the call of a program that does next to nothing, until it is through.
      memory_gb: that programs may fill; None where the device does not say.
    """

    tflop_per_s: float
    copy_gb_per_s: float
    launch_us: float
    call_us: float
    memory_gb: float | None


def measured_ceilings(device: jax.Device) -> Ceilings:
    """Takes a few seconds, and on a GPU some gigabytes."""
    small = device.platform == "cpu"
    size, numbers = (512, 2**22) if small else (8192, 2**29)
    rng = np.random.default_rng(0)
    # Zeros would be faster than what products are made of.
    matrix = jax.device_put(rng.normal(size=(size, size)).astype(jnp.bfloat16), device)
    product = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.float32))
    each = seconds_each(lambda: product(matrix, matrix))
    copied = jax.device_put(np.zeros(numbers, np.float32), device)
    copy = jax.jit(lambda x: -x)
    copying = seconds_each(lambda: copy(copied))
    nothing = jax.device_put(np.zeros(8, np.float32), device)
    call = seconds_each(lambda: jax.block_until_ready(copy(nothing)))
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return Ceilings(
        tflop_per_s=2 * size**3 / each / 1e12,
        copy_gb_per_s=2 * copied.nbytes / copying / 1e9,
        launch_us=_launch_seconds(device) * 1e6,
        call_us=call * 1e6,
        memory_gb=limit / 1e9 if limit and not small else None,
    )


def _launch_seconds(device: jax.Device) -> float:
    """What a turn of a loop takes with nine small products that none can be fused with another,
    less what it takes with one."""
    turns = 500

    def looped(products: int) -> Callable[[Any], Any]:
        def turn(_: Any, x: Any) -> Any:
            for _ in range(products):
                x = jnp.dot(x, x)
            return x

        return jax.jit(lambda x: jax.lax.fori_loop(0, turns, turn, x))

    x = jax.device_put(np.eye(16, dtype=np.float32), device)
    one, nine = (looped(products) for products in (1, 9))
    return max(0.0, seconds_each(lambda: nine(x)) - seconds_each(lambda: one(x))) / (8 * turns)


def seconds_of_calls(run: Callable[[], Any], calls: int) -> float:
    """Of so many calls, of which only the last is waited for."""
    start = time.perf_counter()
    for _ in range(calls):
        last = run()
    jax.block_until_ready(last)
    return time.perf_counter() - start


def seconds_each(
    run: Callable[[], Any], at_least: float = _SECONDS, until: float = math.inf
) -> float:
    """Of a call among many, after one that is not counted.

    Args:
      run: gives what is to be waited for.
      at_least: seconds that all of them take together.
      until: by ``time.monotonic``; after that no more are begun, once there are some.
    """
    seconds_of_calls(run, 1)
    calls, spent = 1, 0.0
    while not spent or (spent < at_least and time.monotonic() < until):
        calls *= 2
        spent = seconds_of_calls(run, calls)
    return spent / calls

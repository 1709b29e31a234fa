"""Equal terms for both sides of a comparison."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxser.runtime.errors import UsageError


def on_equal_terms(device: str, threads: int) -> float:
    """Give both sides as much of the machine; call it before either is imported.

    Args:
      device: "cpu", or "gpu": the first one, of which JAX takes its half in advance.
      threads: CPU threads of each side.

    Returns:
      cores that other programs keep busy.

    Raises:
      UsageError: see :func:`hold_to_threads`; or there is no GPU that both can use.
    """
    if device == "cpu":
        return hold_to_threads(threads)
    os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = "0.45"
    busy = busy_cores()
    import jax
    import torch

    for side, sees_it in (
        ("JAX", jax.default_backend() == "gpu"),
        ("PyTorch", torch.cuda.is_available()),
    ):
        if not sees_it:
            raise UsageError(
                f"{side} sees no GPU; install a build of it for this one, or measure with "
                "--device cpu."
            )
    # As XLA does: products in float32 go through the tensor cores in TF32.
    torch.set_float32_matmul_precision("high")
    # Convolutions are timed in all their forms before the first turn, as XLA times them.
    torch.backends.cudnn.benchmark = True
    return busy


def hold_to_threads(threads: int) -> float:
    """Hold JAX and PyTorch to as many CPU threads; call it before either is imported.

    Returns:
      cores that other programs keep busy, after a warning if that is more than a fifth of one.

    Raises:
      UsageError: without so many cores, or where processes cannot be held to some.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("only Linux can hold both sides to the same threads; run this there.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < threads:
        raise UsageError(
            f"{threads} threads were asked for on {len(cores)} cores; give --threads "
            f"{len(cores)} or less."
        )
    busy = busy_cores()
    # JAX's CPU backend takes as many threads as the process may use cores.
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.sched_setaffinity(0, cores[:threads])
    import torch

    torch.set_num_threads(threads)
    if busy > 0.2:
        print(
            f"warning: other programs keep {busy:.1f} cores busy; PyTorch's threads wait for each "
            "other and suffer more from that, so the ratios will be too high."
        )
    return busy


def busy_cores(seconds: float = 2.0) -> float:
    """Cores that other programs keep busy now; NaN where /proc is not there."""
    if not Path("/proc/stat").exists():
        return float("nan")

    def used() -> float:
        # user, nice, system, idle, waiting, interrupts ..., in ticks, of all cores together
        ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4]

    before, start = used(), time.perf_counter()
    time.sleep(seconds)
    return (used() - before) / os.sysconf("SC_CLK_TCK") / (time.perf_counter() - start)


def seconds_of(run: Callable[[Any], Any], x: Any) -> float:
    """Of one call."""
    start = time.perf_counter()
    run(x)
    return time.perf_counter() - start


def rows_per_second(run: Callable[[Any], Any], x: Any, at_least: float = 0.0) -> float:
    """Of calls with all rows of ``x``, after one that is not counted.

    Memory that a side gave back while the other had its turn has to be mapped anew, which a virtual
    machine pays for: 1 s of a call of 3.4 s here. Calls that follow each other, as in use, do not.

    Args:
      run: does the work for a batch, to the end.
      x: the batch.
      at_least: seconds to go on for; one call is counted in any case.
    """
    run(x)
    calls, spent = 0, 0.0
    while not calls or spent < at_least:
        spent += seconds_of(run, x)
        calls += 1
    return calls * len(x) / spent


def best_batch(run: Callable[[Any], Any], x: Any, sizes: list[int], at_least: float = 0.0) -> int:
    """The batch size with most rows per second, best of two; a single one is not measured."""
    if len(sizes) == 1:
        return sizes[0]
    rates = {
        size: max(rows_per_second(run, x[:size], at_least) for _ in range(2)) for size in sizes
    }
    return max(rates, key=lambda size: rates[size])


def write_report(out: Path, busy: float, threads: int, **content: Any) -> None:
    """Write what was measured, with the machine and the versions it was measured on, as JSON.

    Args:
      out: the file.
      busy: from :func:`busy_cores` before the measurement.
      threads: of each side.
      **content: what was asked for and measured.
    """
    from jaxser.runtime.files import write_text
    from jaxser.runtime.provenance import environment

    torch = sys.modules.get("torch")  # absent where there is no other side
    versions = {"torch": torch.__version__} if torch else {}
    report = {
        "environment": {**environment(), **versions, "threads": threads},
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "busy_cores_before": busy,
        **content,
    }
    write_text(out, json.dumps(report, indent=1) + "\n")

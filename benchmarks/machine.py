"""Equal terms for both sides of a comparison: as many threads, or the same GPU."""

import os
import time
from pathlib import Path

from jaxser.runtime.errors import UsageError

__all__ = ["busy_cores", "hold_to_threads", "on_equal_terms", "torch_as_xla"]


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
    torch_as_xla()
    return busy


def torch_as_xla() -> None:
    """Let PyTorch use a GPU as XLA does."""
    import torch

    # Products in float32 go through the tensor cores in TF32.
    torch.set_float32_matmul_precision("high")
    # Convolutions are timed in all their forms before the first turn, as XLA times them.
    torch.backends.cudnn.benchmark = True


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

"""Results of a GPU that are the same bit for bit, by the same kernels in every process.

    be_deterministic(Path("runs/emo18"), asked=True)       # before JAX looks for its devices

XLA tries several kernels for each product and convolution and takes the fastest, which is another
one at another time, and some operations add in the order in which threads come by. With this it
leaves the latter out, and keeps beside the run which kernels it took: later starts, and other runs
that are given the file, take the same. Of several processes each keeps its own choice. A CPU is
deterministic as it is.
"""

import argparse
import os
import re
from pathlib import Path

from jaxser.runtime.errors import UsageError

__all__ = [
    "KERNELS_FILE",
    "add_deterministic_flag",
    "be_deterministic",
    "is_kernels_file",
    "is_to_be_deterministic",
]

# Of process 0; those of others have their number in the name.
KERNELS_FILE = "autotuning.textproto"


def add_deterministic_flag(parser: argparse.ArgumentParser) -> None:
    """The flag of commands that compute."""
    parser.add_argument_group("how it computes").add_argument(
        "--deterministic",
        action="store_true",
        help=f"on a GPU the same bits in every run, slower; {KERNELS_FILE} in --out keeps which "
        "kernels were taken",
    )


def be_deterministic(out: Path | None, asked: bool, process: int = 0) -> bool:
    """Tell XLA, where it is asked for or the run was begun so; whether it was told.

    Args:
      out: folder of the run.
      asked: by the command line.
      process: number of this one among those that compute the run. It keeps its own choice, as XLA
        writes the whole file again, and begins with that of process 0 where it has none.

    Raises:
      UsageError: as of :func:`is_to_be_deterministic`.
    """
    if not is_to_be_deterministic(out, asked):
        return False
    assert out is not None
    # XLA compiles nothing where it cannot write its choice.
    if not out.exists():
        out.mkdir(parents=True, exist_ok=True)
    first, own = (_kernels_file(out, number) for number in (0, process))
    flags = [
        *os.environ.get("XLA_FLAGS", "").split(),
        "--xla_gpu_exclude_nondeterministic_ops=true",
        f"--xla_gpu_dump_autotune_results_to={own}",
    ]
    known = next((file for file in (own, first) if file.exists()), None)
    if known is not None:
        flags.append(f"--xla_gpu_load_autotune_results_from={known}")
    os.environ["XLA_FLAGS"] = " ".join(flags)
    return True


def is_to_be_deterministic(out: Path | None, asked: bool) -> bool:
    """Whether it is asked for, or the run in the folder was begun so.

    Raises:
      UsageError: there is no folder to keep the choice in, or its name has a blank, at which XLA
        would end it.
    """
    if out is None:
        if asked:
            raise UsageError("--deterministic keeps which kernels were taken in --out; give one.")
        return False
    kernels = _kernels_file(out, 0)
    if not (asked or kernels.exists()):
        return False
    if any(letter.isspace() for letter in str(kernels)):
        raise UsageError(
            f"--deterministic cannot keep its choice in {out}: XLA takes no path with a blank; "
            "give another --out."
        )
    return True


def is_kernels_file(name: str) -> bool:
    """Whether a file of a run's folder holds which kernels a process took."""
    return re.fullmatch(r"autotuning(-[1-9][0-9]*)?\.textproto", name) is not None


def _kernels_file(out: Path, process: int) -> Path:
    name = Path(KERNELS_FILE)
    return (out / (f"{name.stem}-{process}{name.suffix}" if process else name)).resolve()

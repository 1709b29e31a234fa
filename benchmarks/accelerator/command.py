"""Measure an accelerator in one call: victims by attacks by batch sizes, beside PyTorch.

    python -m benchmarks.accelerator --minutes 10 --out benchmarks/results/accelerator_h200.json
    python -m benchmarks.accelerator --go_on --minutes 10 --out FILE      # what is left
    python -m benchmarks.accelerator --compiled_for h200 --minutes 10     # without a device

Ceilings of the device first: a product in half precision, a copy, a launch. Then, the most telling
first, for as long as there are minutes: PGD with 20 steps on every victim, STAA-Net's generator,
every attack of the three papers' tables, forward passes and gradients. Weights and speech are made
here. Programs compile in threads before anything is timed. A step is timed by the programs alone,
rows by whole runs of the driver; where a run would take too long, rows are those of all its steps.
Beside them torchattacks, as it is and on a model that ``torch.compile`` has compiled, on the same
device, weights and inputs, taking turns. Every cell has a deadline, and the file is written anew
after each. FLOP are of products and convolutions as they are traced, launches and bytes are read
off the compiled program. Speech over time is RTFx: seconds of speech attacked in a second.

``--compiled_for`` compiles the same programs for a device that is not there and models what a step
takes: launches of 1.5 us each, and bytes at nine tenths of 4.3 TB/s.
"""

import argparse
import importlib.util
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accelerator.cells import BATCHES, KINDS, VICTIMS, cells
from benchmarks.aot import DEVICES
from benchmarks.command import add_turns, command_parser
from jaxser.runtime.cores import available_cores
from jaxser.runtime.errors import UsageError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, measure or compile, print, write; returns the exit status."""
    args = _parse(argv)
    end = time.monotonic() + 60 * args.minutes
    chosen = cells(args.victims, args.batches, args.kinds, args.attacks)
    if args.compiled_for:
        from benchmarks.accelerator.without_device import compile_cells

        compile_cells(chosen, args, end)
        return 0
    # Before JAX takes the memory: PyTorch needs some.
    if args.peers != "none" and importlib.util.find_spec("torch") is not None:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6")
    else:
        args.peers = "none"
    from benchmarks.accelerator.session import Session

    session = Session(chosen, args, end)
    session.run()
    if session.compiling.active:
        # Compilers cannot be interrupted, and all is written.
        sys.stdout.flush()
        os._exit(0)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("accelerator", __doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all of it")
    parser.add_argument(
        "--victims", nargs="+", default=VICTIMS, metavar="NAME[+OPTION=VALUE]", help="default: all"
    )
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="by what they tell")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--attacks", nargs="+", metavar="NAME", help="default: all of the tables")
    parser.add_argument("--seconds", type=float, default=6.0, help="of speech in a row")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of products and convolutions on all sides (default: bfloat16, on a CPU float32)",
    )
    parser.add_argument(
        "--peers",
        choices=("none", "eager", "compiled"),
        default="compiled",
        help="PyTorch's sides, where it is installed; compiled: also by torch.compile",
    )
    parser.add_argument("--cell_seconds", type=float, default=3.0, help="of a cell on each side")
    parser.add_argument(
        "--threads", type=int, default=available_cores(), help="that compile at a time"
    )
    parser.add_argument("--compiled_for", choices=list(DEVICES), help="run nothing")
    parser.add_argument("--go_on", action="store_true", help="keep what is in the file")
    parser.add_argument("--out", type=Path, help="JSON file to write, after every cell")
    add_turns(parser, 2)
    args = parser.parse_args(argv)
    numbers = {
        name: [getattr(args, name)] for name in ("minutes", "seconds", "cell_seconds", "threads")
    }
    for name, given in (numbers | {"batches": args.batches}).items():
        if not all(0 < value < math.inf for value in given):
            raise UsageError(f"--{name} must be more than 0.")
    if args.go_on and args.out is None:
        raise UsageError("--go_on needs --out FILE, which holds what was measured.")
    return args

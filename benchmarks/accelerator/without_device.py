"""The programs of the cells for a device that is not there: what its compiler says, and a model.

compile_cells(cells, args, end)
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.accelerator.cells import Cell
from benchmarks.accelerator.programs import programs_of
from benchmarks.accelerator.report import arguments_of, reason_of
from benchmarks.accelerator.victims import drawn_victim
from benchmarks.aot import DEVICES, cudnn_assumed
from benchmarks.command import write_json
from jaxser.runtime.numerics import fixed_numerics
from jaxser.runtime.provenance import environment
from jaxser.runtime.sharding import make_mesh

__all__ = ["compile_cells", "modelled_seconds"]

# Of an H200, as its copies and small kernels were measured.
_LAUNCH_SECONDS, _BYTES_PER_SECOND = 1.5e-6, 0.9 * 4.3e12


def modelled_seconds(launches: float, gigabytes: float) -> float:
    """Of a step on an H200, by launches and bytes alone."""
    return launches * _LAUNCH_SECONDS + gigabytes * 1e9 / _BYTES_PER_SECOND


def compile_cells(cells: Sequence[Cell], args: argparse.Namespace, end: float) -> None:
    """Compile one cell after another until it is ``end``; print and write what is found."""
    device = DEVICES[args.compiled_for]
    mesh = make_mesh(device.mesh().devices.ravel()[:1])
    found: list[dict[str, Any]] = []
    left: list[dict[str, str]] = []
    for cell in cells:
        if cell.kind == "generator":
            continue
        if time.monotonic() > end:
            left.append({"cell": str(cell), "reason": "no time was left for it"})
            continue
        try:
            line = _compiled(cell, args, device, mesh)
        except Exception as error:  # whatever a compiler says; the others go on
            left.append({"cell": str(cell), "reason": reason_of(error)})
            print(f"{cell}: {left[-1]['reason'][:200]}", flush=True)
            continue
        found.append(line)
        print(_shown(line), flush=True)
        _write(args, found, left)
    _write(args, found, left)


def _compiled(cell: Cell, args: argparse.Namespace, device: Any, mesh: Any) -> dict[str, Any]:
    with device.forms(), cudnn_assumed(), fixed_numerics():
        drawn = drawn_victim(cell.victim, args.seconds, args.dtype or "bfloat16", True)
        programs = programs_of(cell, drawn, mesh, shapes_only=True)
        facts = programs.compiled_with(device.compile)
    steps = programs.attack.max_steps if programs.attack is not None else 1
    line = {
        "model": cell.victim,
        "task": cell.task,
        "batch": cell.batch,
        "seconds": drawn.seconds,
        "steps": steps,
        **facts,
    }
    if device.platform == "gpu":
        seconds = modelled_seconds(facts["launches"], facts["step_gb"])
        line["modelled_step_ms"] = 1e3 * seconds
        line["modelled_rows_per_s"] = cell.batch / (steps * seconds)
    return line


def _shown(line: dict[str, Any]) -> str:
    modelled = ""
    if "modelled_rows_per_s" in line:
        modelled = (
            f"modelled {line['modelled_step_ms']:8.3f} ms a step, "
            f"{line['modelled_rows_per_s']:10.2f} rows/s"
        )
    return (
        f"{line['model']:14} {line['task']:14} @{line['batch']:<5} "
        f"{line.get('launches', 0):6.0f} launches "
        f"{line['step_gb']:8.3f} GB {line['step_gflop']:10.1f} GFLOP a step, "
        f"{line['memory_gb']:7.2f} GB of memory, compiled in {line['compile_processor_s']:6.1f} s; "
        f"{modelled}"
    )


def _write(
    args: argparse.Namespace, found: Sequence[dict[str, Any]], left: Sequence[dict[str, str]]
) -> None:
    if args.out is None:
        return
    target = f"none; compiled for {args.compiled_for}"
    write_json(
        args.out,
        {
            "environment": {**environment(), "device": target},
            "benchmark": "accelerator",
            "arguments": arguments_of(args),
            "compiled_for": args.compiled_for,
            "compiled": found,
            "left": left,
        },
    )

"""Programs as the compilers for an H200 and a v5e-8 see them, on a machine that has neither.

    pip install 'jaxser[aot]'
    python -m benchmarks.compiled --device h200 --out benchmarks/results/compiled_h200.json
    python -m benchmarks.compiled --programs emo18:pgd:steps=20@32 zhao19:training@32

The driver's programs of attacks on victims, and steps of training: the processor's seconds to
compile, bytes of memory beside arguments and results, collectives; on the GPU also kernels launched
and bytes moved by one step of the attack (those of loops within it, over the steps of an LSTM,
apart: they read the same weights in every turn). Nothing is run, so nothing is timed.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.aot import DEVICES, Device, cudnn_assumed
from benchmarks.command import command_parser, write_json
from jaxser.runtime.errors import report_errors

__all__ = ["PROGRAMS", "compiled_rows", "main"]

PROGRAMS = (
    "emo18:pgd:steps=20@32",
    "emo18:pgd:steps=20@256",
    "emo18:deepfool@32",
    "emo18:training@32",
    "zhao19:pgd:steps=20@32",
    "zhao19:deepfool@32",
    "cnn_lstm:pgd:steps=20@32",
    "echim_cnn_lstm:pgd:steps=20@32",
    "wav2vec2-base:pgd:steps=20@32",
    "wav2vec2-base+attention=cudnn:pgd:steps=20@32",
)


def compiled_rows(texts: Sequence[str], name: str, device: Device) -> Iterator[dict[str, Any]]:
    """What the compiler says of every program of the specs ``texts``, one after the other.

    Raises:
      UsageError: the compiler is not installed, or a spec is none.
    """
    from benchmarks.compiled_programs import Spec, lowered_programs
    from jaxser.runtime.numerics import fixed_numerics

    specs = [Spec.read(text) for text in texts]
    mesh = device.mesh()
    for spec in specs:
        with device.forms(), cudnn_assumed(), fixed_numerics():
            programs = list(lowered_programs(spec, mesh))
        for part in programs:
            yield {
                "device": name,
                "program": spec.text,
                "part": part.name,
                **_compiled(part.program, device, is_loop=part.steps > 1),
            }


def _compiled(program: Any, device: Device, is_loop: bool) -> dict[str, Any]:
    from benchmarks.hlo import counted, counted_step

    # Of the processor: a compiler takes what other programs leave it.
    start = time.process_time()
    compiled = device.compile(program)
    seconds = time.process_time() - start
    memory, costs = compiled.memory_analysis(), compiled.cost_analysis() or {}
    counts = (counted_step if is_loop else counted)(compiled.as_text())
    found = {
        "compile_processor_seconds": round(seconds, 1),
        "temporary_mb": round(memory.temp_size_in_bytes / 1e6, 1),
        "argument_mb": round(memory.argument_size_in_bytes / 1e6, 1),
        "collectives": dict(counts.collectives),
    }
    if device.platform == "gpu":
        found["launches"] = counts.launches
        found["step_gb"] = round(counts.bytes / 1e9, 3)
        found["inner_loops_gb"] = round(counts.loop_bytes / 1e9, 3)
    else:
        # A loop's body counts once.
        found["step_gb"] = round(costs.get("bytes accessed", 0.0) / 1e9, 3)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, compile, print, write; returns the exit status."""
    from jaxser.runtime.provenance import environment

    args = _parse(argv)
    rows: list[Mapping[str, Any]] = []
    for name in args.device:
        for row in compiled_rows(args.programs, name, DEVICES[name]):
            rows.append(row)
            print(_line(row), flush=True)
            if args.out:
                target = f"none; compiled for {' and '.join(args.device)}"
                write_json(
                    args.out,
                    {
                        "environment": {**environment(), "device": target},
                        "devices": args.device,
                        "programs": rows,
                    },
                )
    return 0


def _line(row: Mapping[str, Any]) -> str:
    launches = f"{row['launches']:6d} launches " if "launches" in row else ""
    return (
        f"{row['device']:6} {row['program']:48} {row['part']:8} {launches}"
        f"{row['step_gb']:8.3f} GB a step {row['temporary_mb']:9.1f} MB beside, compiled in "
        f"{row['compile_processor_seconds']:.1f} s, collectives {row['collectives'] or 'none'}"
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    from pathlib import Path

    parser = command_parser("compiled", __doc__)
    parser.add_argument(
        "--programs",
        nargs="+",
        default=PROGRAMS,
        metavar="VICTIM:ATTACK[@ROWS]",
        help="attacks, or training; rows of each device",
    )
    parser.add_argument("--device", nargs="+", choices=list(DEVICES), default=["h200"])
    parser.add_argument("--out", type=Path, help="JSON file to write, after every program")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(report_errors(main))

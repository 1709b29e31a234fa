"""Both sides of a cell in turn, and what comes of it: rows, steps, FLOP, bytes, the host's share.

lines, failed = measured(cell, programs, setting)
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.accelerator.ceilings import Ceilings
from benchmarks.accelerator.cells import Cell
from benchmarks.accelerator.ours import OurSide, Steps
from benchmarks.accelerator.programs import CellPrograms
from benchmarks.accelerator.report import reason_of
from benchmarks.turns import take_turns

__all__ = ["Setting", "measured"]

PeerRun = Callable[[float], None]

# Seconds without which PyTorch's sides are left out: what they begin with has no deadline.
_FOR_PEERS, _FOR_COMPILED = 10.0, 90.0


@dataclasses.dataclass(frozen=True)
class Setting:
    """How cells are measured.

    Attributes:
      ceilings: of the device.
      peers: "none", "eager" or "compiled": PyTorch's sides, where PyTorch is there.
      cell_seconds: at most, for each side of a cell; calls that are under way go on to their end.
      pairs: turns of each side.
      end: of the whole call, by ``time.monotonic``.
    """

    ceilings: Ceilings
    peers: str
    cell_seconds: float
    pairs: int
    end: float


def measured(
    cell: Cell, programs: CellPrograms, setting: Setting
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """(a line for each side, jaxser's first; side -> why it has none)."""
    side = OurSide(cell, programs)
    steps = side.steps(time.monotonic() + setting.cell_seconds)
    peers, failed = _timed_peers(_peers(cell, programs, side, setting), setting)
    if steps.whole and steps.run_seconds() < setting.cell_seconds:
        for_seconds = setting.cell_seconds / (2 * setting.pairs)
        side.repeat(steps.run_seconds(), for_seconds)
        side.turn()
        sides: dict[str, Callable[[], float]] = {"jaxser": lambda: _rate(*side.turn())}
        for name, (run, seconds) in peers.items():
            sides[name] = functools.partial(_peer_rate, run, cell, seconds, for_seconds)
        rates = take_turns(sides, setting.pairs)
    else:
        rates = {name: [cell.batch / seconds] for name, (_, seconds) in peers.items()}
        rates = {"jaxser": [cell.batch / steps.run_seconds()], **rates}
    about = {"model": cell.victim, "task": cell.task, "batch": cell.batch}
    about |= {"seconds": programs.drawn.seconds}
    lines = [about | {"side": name, "rows_per_s": rate} for name, rate in rates.items()]
    lines[0] |= _attack_facts(cell, steps, rates["jaxser"]) | _figures(
        cell, programs, steps, statistics.median(rates["jaxser"]), setting.ceilings
    )
    return lines, failed


def _timed_peers(
    runs: Mapping[str, PeerRun], setting: Setting
) -> tuple[dict[str, tuple[PeerRun, float]], dict[str, str]]:
    """(side -> its run and the seconds of one, side -> why it has none).

    The first run of a side compiles, and has what time it wants for that.
    """
    timed: dict[str, tuple[PeerRun, float]] = {}
    failed: dict[str, str] = {}
    if not runs:
        return timed, failed
    from benchmarks.accelerator.peers import OutOfTime

    for name, run in runs.items():
        try:
            for _ in range(2):
                start = time.monotonic()
                run(start + setting.cell_seconds)
            timed[name] = (run, time.monotonic() - start)
        except OutOfTime:
            failed[name] = f"not through after {setting.cell_seconds:g} s"
        except Exception as error:  # whatever a peer says to a device: the other sides go on
            failed[name] = reason_of(error)
    return timed, failed


def _attack_facts(cell: Cell, steps: Steps, rates: Sequence[float]) -> dict[str, Any]:
    if cell.line is None:
        return {}
    found: dict[str, Any] = {"attack": cell.line.attack, "parameters": dict(cell.line.parameters)}
    found["whole_runs"] = len(rates) > 1
    rate = statistics.median(rates)
    if found["whole_runs"]:
        # What the programs alone would have taken, of what the driver took.
        found["host_share"] = max(0.0, 1 - steps.run_seconds() * rate / cell.batch)
    published = cell.line.published
    if published is not None:
        found["published"] = dataclasses.asdict(published)
        if published.unit == "utterance":
            found["times_published"] = [each * rate for each in published.seconds]
    return found


def _figures(
    cell: Cell, programs: CellPrograms, steps: Steps, rate: float, ceilings: Ceilings
) -> dict[str, Any]:
    facts, taken = programs.facts(), steps.taken if steps.whole else steps.most
    tflop_per_s = facts["step_gflop"] / steps.seconds / 1e3
    found = {
        "rtfx": rate * programs.drawn.seconds,
        "step_ms": 1e3 * steps.seconds,
        "steps": taken,
        "timed_steps": steps.taken,
        "step_gflop": facts["step_gflop"],
        "gflop_per_row": facts["step_gflop"] * taken / cell.batch,
        "tflop_per_s": tflop_per_s,
        "share_of_peak": tflop_per_s / ceilings.tflop_per_s,
        "memory_gb": facts["memory_gb"],
        "compile_s": programs.compile_s,
    }
    if "launches" in facts:
        found |= {"launches": facts["launches"], "step_gb": facts["step_gb"]}
        found["gb_per_s"] = facts["step_gb"] / steps.seconds
    return found


def _rate(seconds: float, rows: int) -> float:
    return rows / seconds


def _peers(
    cell: Cell, programs: CellPrograms, side: OurSide, setting: Setting
) -> dict[str, PeerRun]:
    left = setting.end - time.monotonic()
    if setting.peers == "none" or left < _FOR_PEERS:
        return {}
    from benchmarks.accelerator.peers import peer_runs

    labels = np.arange(cell.batch) % len(programs.drawn.victim.labels)
    if cell.line is not None:
        labels = side.labels
    compiled = setting.peers == "compiled" and left > _FOR_COMPILED
    return peer_runs(cell, programs.drawn, side.x, labels, compiled=compiled)


def _peer_rate(run: PeerRun, cell: Cell, seconds: float, for_seconds: float) -> float:
    """Rows per second of as many runs as the time has room for."""
    calls = int(np.clip(for_seconds / max(seconds, 1e-6), 1, 32))
    start = time.perf_counter()
    for _ in range(calls):
        run(float("inf"))
    return calls * cell.batch / (time.perf_counter() - start)

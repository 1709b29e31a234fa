"""Tables of benchmarks.accelerator: what a device was measured at, and what a compiler says."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.page.table import Table, digits, percent, reach
from benchmarks.turns import ratios
from jaxser.reporting.benchmarks import pairs_of_sides

__all__ = ["accelerator_compiled_table", "accelerator_table", "ceilings_table"]

Line = Mapping[str, Any]


def ceilings_table(reports: Sequence[Line]) -> Table:
    """What the devices can do at best."""
    table = [["device", "product in bfloat16, TFLOP/s", "copy, GB/s", "launch, us", "call, us"]]
    for report in reports:
        found = report["ceilings"]
        keys = ("tflop_per_s", "copy_gb_per_s", "launch_us", "call_us")
        table.append([report["environment"]["device"], *(digits(found[key]) for key in keys)])
    return table


def accelerator_table(reports: Sequence[Line]) -> Table:
    """Every cell in a line: jaxser's figures, and its ratios to PyTorch's sides."""
    table = [["victim", "work", "batch", "rows/s", "RTFx", "ms a step", "steps", "TFLOP/s"]]
    table[0] += ["of the peak", "GB/s", "memory, GB", "launches", "host", "compilation, s"]
    table[0] += ["÷ torch or torchattacks", "÷ compiled", "the paper's s", "× the paper"]
    for report in reports:
        beside: dict[int, list[Line]] = {}
        for own, peer in pairs_of_sides(report["measured"]):
            beside.setdefault(id(own), []).append(peer)
        for own in report["measured"]:
            if own["side"].startswith("jaxser"):
                table.append([*_figures(own), *_beside(own, beside.get(id(own), []))])
    return table


def _figures(own: Line) -> list[str]:
    side = own["side"].removeprefix("jaxser").strip()
    work = ", ".join([own["task"], *([side] if side else [])])
    if own.get("whole_runs") is False:
        work += " (by its steps)"
    line = [own["model"], work, str(own["batch"]), digits(statistics.median(own["rows_per_s"]))]
    line += [_known(own, key) for key in ("rtfx", "step_ms")]
    line += [f"{own['steps']:,}" if "steps" in own else "–", _known(own, "tflop_per_s")]
    line.append(percent(own["share_of_peak"], 1))
    line += [_known(own, key) for key in ("gb_per_s", "memory_gb", "launches")]
    line.append(percent(own["host_share"]) if "host_share" in own else "–")
    return [*line, _known(own, "compile_s")]


def _beside(own: Line, peers: Sequence[Line]) -> list[str]:
    found = {False: "–", True: "–"}
    for peer in peers:
        each = ratios(own["rows_per_s"], peer["rows_per_s"])
        found[peer["side"].endswith("compiled")] = reach(statistics.median(each), each)
    published = own.get("published")
    said = "–"
    if published:
        low, high = (f"{each:g}" for each in published["seconds"])
        where = f", {published['hardware']}" if published["hardware"] else ""
        said = f"{low}–{high} a {published['unit']}{where}"
    times = own.get("times_published")
    return [*found.values(), said, "–".join(map(digits, times)) if times else "–"]


def _known(line: Line, key: str) -> str:
    return digits(line[key]) if line.get(key) is not None else "–"


def accelerator_compiled_table(reports: Sequence[Line]) -> Table:
    """What the compiler for a device that is not there says of the cells, and the model."""
    table = [["device", "victim", "work", "batch", "launches a step", "GB a step"]]
    table[0] += ["GFLOP a step", "memory, GB", "compiled in, processor s"]
    table[0] += ["ms a step, modelled", "steps", "rows/s, modelled"]
    keys = ("launches", "step_gb", "step_gflop", "memory_gb", "compile_processor_s")
    for report in reports:
        for each in report["compiled"]:
            line = [report["compiled_for"], each["model"], each["task"], str(each["batch"])]
            line += [_known(each, key) for key in (*keys, "modelled_step_ms")]
            table.append([*line, f"{each['steps']:,}", _known(each, "modelled_rows_per_s")])
    return table

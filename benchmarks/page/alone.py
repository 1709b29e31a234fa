"""Tables of what jaxser was measured at without a peer: refilling, rows, sweeps, programs."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.page.table import Table, digits, percent, reach

__all__ = [
    "bookkeeping_table",
    "compiled_table",
    "refilling_table",
    "rows_table",
    "scaling_table",
]


def compiled_table(reports: Sequence[Mapping[str, Any]]) -> Table:
    """What the compilers of accelerators say of programs: launches, bytes, memory, compilation."""
    table = [["device", "program", "launches a step", "GB a step", "GB of its loops"]]
    table[0] += ["memory beside, MB", "compiled in, processor s", "collectives"]
    for report in reports:
        for each in report["programs"]:
            line = [each["device"], f"`{each['program']}`", f"{each.get('launches', 0) or ''}"]
            line += [digits(each["step_gb"]), digits(each.get("inner_loops_gb", 0.0))]
            line += [digits(each["temporary_mb"]), digits(each["compile_processor_seconds"])]
            table.append([*line, ", ".join(each["collectives"])])
    return table


def refilling_table(reports: Sequence[Mapping[str, Any]]) -> Table:
    """Row-steps that fall on rows that are done, with refilling and without it, of each attack."""
    table = [["attack", "speech", "utterances", "slots", "success", "steps, median (most)"]]
    table[0] += ["wasted, refilled", "wasted, plain", "seconds, refilled", "seconds, plain"]
    for report in reports:
        for each in report["measured"]:
            line = [each["attack"], f"{report['seconds']:g} s", str(each["rows"])]
            line += [str(each["batch_size"]), percent(each["success"])]
            line.append(f"{each['steps_median']:.0f} ({each['steps_max']})")
            line += [percent(each[key], 1) for key in ("wasted", "wasted_plain")]
            table.append([*line, *(digits(each[key]) for key in ("seconds", "seconds_plain"))])
    return table


def rows_table(reports: Sequence[Mapping[str, Any]]) -> Table:
    """How fast rows are written, and what a report of them takes."""
    table = [["rows", "written, rows/s", "report, processor s", "report, s in all"]]
    table[0] += ["memory of the report, MB", "page, MB"]
    for report in reports:
        each = report["measured"]
        line = [f"{each['rows']:,}", f"{each['rows_per_s']:,.0f}"]
        keys = ("report_cpu_s", "report_wall_s", "report_peak_mb", "page_mb")
        table.append([*line, *(digits(each[key]) for key in keys)])
    return table


def bookkeeping_table(reports: Sequence[Mapping[str, Any]]) -> Table:
    """Rows per second of a sweep beside those of its driver alone; then memory."""
    table = [["attack", "rows", "sweep, rows/s", "driver, rows/s", "sweep ÷ driver"]]
    for report in reports:
        for each in report["costs"]:
            sweep, driver = each["sweep_seconds"], each["driver_seconds"]
            shares = [bare / swept for swept, bare in zip(sweep, driver, strict=True)]
            line = [each["attack"], str(each["rows"])]
            line += [digits(each["rows"] / statistics.median(turns)) for turns in (sweep, driver)]
            table.append([*line, reach(statistics.median(shares), shares)])
        together = reach(statistics.median(report["shares"]), report["shares"])
        table.append(["all", str(sum(each["rows"] for each in report["costs"])), "", "", together])
        table += [
            [f"peak memory {digits(each['peak_megabytes'])} MB", f"{each['rows']:.0f}", "", "", ""]
            for each in report["memory"]
        ]
    return table


def scaling_table(reports: Sequence[Mapping[str, Any]]) -> Table:
    """Rows per second of one process and of several."""
    table = [["processes", "batch", "rows", "rows/s while attacking", "rows/s with the start"]]
    for report in reports:
        for case in report["cases"]:
            line = [str(case["processes"]), str(case["batch_size"] or "its own")]
            line.append(str(case["turns"][0]["rows"]))
            for rates in (case["steady_rows_per_s"], case["wall_rows_per_s"]):
                line.append(reach(statistics.median(rates), rates))
            table.append(line)
    return table

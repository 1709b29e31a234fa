"""Tables of what jaxser and a peer took for the same work, one for the files of each benchmark.

:mod:`jaxser.reporting.speed`, which reads the same files for reports, says what is compared with
what; what a report has no column for comes from the files themselves.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.page.table import Table, digits, either, percent, reach, span
from benchmarks.systematic_cells import total_seconds
from benchmarks.turns import ratios
from jaxser.reporting.benchmarks import Comparison, comparisons_of, pairs_of_sides

__all__ = [
    "adversarial_table",
    "attacks_table",
    "features_table",
    "images_table",
    "sides_table",
    "smoothing_table",
    "summary_table",
    "systematic_table",
    "training_table",
    "whole_attacks_table",
]

_RATIO = "ratio (smallest–largest)"
_NORMS = {"l0": "L0", "l2": "L2", "linf": "L∞"}

Report = Mapping[str, Any]


def summary_table(comparisons: Sequence[Comparison]) -> Table:
    """How the ratios of all comparisons with each peer on each device are spread."""
    groups: dict[tuple[str, str], list[float]] = {}
    for each in comparisons:
        groups.setdefault((each.peer, each.device), []).append(each.ratio)
    table = [["peer", "device", "comparisons", "ratio: median (smallest–largest)"]]
    for (peer, device), found in groups.items():
        table.append([peer, device, str(len(found)), reach(statistics.median(found), found)])
    return table


def attacks_table(reports: Sequence[Report]) -> Table:
    """Of benchmarks.attacks: a line for each attack, peer and length of speech."""
    table = [
        ["attack", "peer", "speech", "utterances", "batch (peer's)", "rows/s (peer's)", _RATIO]
    ]
    table[0] += ["success (peer's)", "distortion (peer's)", "compilation"]
    lines: dict[tuple[str, str], Table] = {}
    for report in reports:
        for each in report["comparisons"]:
            whole, *making = comparisons_of({**report, "comparisons": [each]})
            line = [whole.work, whole.peer, f"{whole.seconds:g} s", str(each["rows"])]
            line.append(either(str(each["batch_size"] or "its own"), str(each["peer_batch_size"])))
            line.append(either(digits(whole.rows_per_s), digits(whole.peer_rows_per_s)))
            line.append(reach(whole.ratio, whole.spread))
            line.append(either(percent(each["success"]), percent(each["peer_success"])))
            far = either(digits(each["distortion"]), digits(each["peer_distortion"]))
            line.append(far if far == "–" else f"{far} {_NORMS[each['norm']]}")
            line.append(f"{whole.compile_s:.1f} s")
            lines.setdefault((whole.peer, whole.work), []).append(line)
            # Of examples that were made and not scored the ratio alone was kept.
            for found in making:
                line = [found.work, *line[1:4], "–", "–", reach(found.ratio, found.spread)]
                lines.setdefault((found.peer, found.work), []).append([*line, "–", "–", "–"])
    return [*table, *(line for group in lines.values() for line in group)]


def systematic_table(reports: Sequence[Report]) -> Table:
    """Of benchmarks.systematic: the settings of an attack in one line, and all together."""
    table = [["line", "settings", "utterances", "accuracy (ART's)", "mean |Δ| (ART's)"]]
    table[0] += ["same class", "s per utterance (ART's)", "ratio (of settings)", "compilation"]
    for report in reports:
        lines: dict[str, list[dict[str, Any]]] = {}
        for cell in report["cells"]:
            lines.setdefault(cell["attack"], []).append(cell)
        for attack, cells in lines.items():
            (found,) = comparisons_of({**report, "cells": cells})
            line = [attack, str(len(cells)), span([cell["rows"] for cell in cells], str)]
            for key, form in (("accuracy", "{:.3g}".format), ("mean_abs", digits)):
                own, peer = ([cell[who + key] for cell in cells] for who in ("", "peer_"))
                line.append(either(span(own, form), span(peer, form)))
            line.append(span([cell["agreement"] for cell in cells], percent))
            line.append(either(*map(digits, total_seconds(cells)["per utterance"])))
            ratio = reach(found.ratio, found.spread) if len(cells) > 1 else digits(found.ratio)
            table.append([*line, ratio, f"{sum(cell['compile_seconds'] for cell in cells):.1f} s"])
        for name, seconds in total_seconds(report["cells"]).items():
            line = [f"all, {name}", str(len(report["cells"])), "", "", "", ""]
            table.append(
                [*line, either(*map(digits, seconds)), digits(seconds[1] / seconds[0]), ""]
            )
    return table


def training_table(reports: Sequence[Report]) -> Table:
    """Of benchmarks.train_throughput."""
    table = [["model", "speech", "work", "samples/s (PyTorch's)", _RATIO, "compilation"]]
    for report in reports:
        for found in comparisons_of(report):
            line = [found.model, f"{found.seconds:g} s", found.work]
            line.append(either(digits(found.rows_per_s), digits(found.peer_rows_per_s)))
            table.append([*line, reach(found.ratio, found.spread), f"{found.compile_s:.1f} s"])
    return table


def sides_table(reports: Sequence[Report]) -> Table:
    """Of benchmarks.foundation and benchmarks.generator: each side beside each of PyTorch's."""
    table = _header_of_sides()
    for report in reports:
        pairs = pairs_of_sides(report["measured"])
        for found, (own, peer) in zip(comparisons_of(report), pairs, strict=True):
            side = own["side"].removeprefix("jaxser").strip() or found.model
            names = [own["task"], f"{found.seconds:g} s", side, peer["side"]]
            table.append([*names, *_figures_of_sides(own, peer)])
    return table


def images_table(reports: Sequence[Report]) -> Table:
    """Of benchmarks.images: each victim beside each of PyTorch's sides."""
    header, *_ = _header_of_sides()
    table = [["victim", "task", "peer", *header[4:]]]
    for report in reports:
        for own, peer in pairs_of_sides(report["measured"]):
            names = [own["model"], own["task"], peer["side"]]
            table.append([*names, *_figures_of_sides(own, peer)])
    return table


def smoothing_table(reports: Sequence[Report]) -> Table:
    """Of benchmarks.smoothing: passes under noise, and the drawing of the noise alone."""
    table = [["victim", "speech", "work", "peer", "batch", "rows/s (peer's)", _RATIO]]
    table[0].append("first call, s (peer's)")
    for report in reports:
        for own, peer in pairs_of_sides(report["measured"]):
            rates = [digits(statistics.median(each["rows_per_s"])) for each in (own, peer)]
            found = ratios(own["rows_per_s"], peer["rows_per_s"])
            line = [own["model"], f"{own['seconds']:g} s", own["task"], peer["side"]]
            line += [str(own["batch"]), either(*rates), reach(statistics.median(found), found)]
            table.append([*line, either(*(digits(each["first_s"]) for each in (own, peer)))])
    return table


def adversarial_table(reports: Sequence[Report]) -> Table:
    """Of benchmarks.adversarial: steps of each victim against each attack."""
    table = [["victim", "step", "batch", "rows/s (peer's)", _RATIO]]
    table[0] += ["cost in clean steps (peer's)", "compilation"]
    for report in reports:
        for own, peer in pairs_of_sides(report["measured"]):
            both = own, peer
            rates = [statistics.median(each["rows_per_s"]) for each in both]
            costs = [statistics.median(each["cost"]) for each in both]
            found = ratios(own["rows_per_s"], peer["rows_per_s"])
            line = [own["model"], own["task"], str(own["batch"]), either(*map(digits, rates))]
            line += [reach(statistics.median(found), found), either(*map(digits, costs))]
            table.append([*line, f"{digits(own['first_s'])} s"])
    return table


def whole_attacks_table(reports: Sequence[Report]) -> Table:
    """Of benchmarks.generator's whole attacks: STAA-Net beside PGD, both here."""
    table = _header_of_sides()
    for report in reports:
        measured = [each for each in report["measured"] if each["task"] == "attack"]
        # At each batch size STAA-Net comes first, then PGD on every threat model.
        for each in measured:
            side = each["side"].removeprefix("jaxser ")
            if side == "STAA-Net":
                staa = each
            else:
                names = ["attack", f"{report['seconds']:g} s", "STAA-Net", side]
                table.append([*names, *_figures_of_sides(staa, each)])
    return table


def _header_of_sides() -> Table:
    header = ["task", "speech", "jaxser", "peer", "batch (peer's)", "rows/s (peer's)"]
    header += ["GFLOP/s (peer's)", "GFLOP a row (peer's)", _RATIO, "first call, s (peer's)"]
    return [header]


def _figures_of_sides(own: Report, peer: Report) -> list[str]:
    both = own, peer
    rates = [statistics.median(each["rows_per_s"]) for each in both]
    work = [each["gflop_per_row"] for each in both]
    found = ratios(own["rows_per_s"], peer["rows_per_s"])
    return [
        either(*(str(each["batch"]) for each in both)),
        either(*map(digits, rates)),
        either(*(digits(rate * each) for rate, each in zip(rates, work, strict=True))),
        either(*map(digits, work)),
        reach(statistics.median(found), found),
        # benchmarks.foundation does not measure it.
        either(*(digits(each.get("first_s", float("nan"))) for each in both)),
    ]


def features_table(reports: Sequence[Report]) -> Table:
    """Of benchmarks.features: a line for each front end, a ratio for each peer."""
    peers = ("librosa", "librosa, one at a time", "torch.stft")
    table = [["front end", "threads", "utterances/s", "with input gradient"]]
    table[0] += ["÷ librosa, the batch in one call", *(f"÷ {peer}" for peer in peers[1:])]
    table[0].append("apart from librosa")
    for report in reports:
        found = {(each.work, each.peer): each for each in comparisons_of(report)}
        sides = {(each["kind"], each["name"]): each for each in report["measured"]}
        for kind in dict.fromkeys(kind for kind, _ in sides):
            own = sides[kind, "jaxser"]
            line = [kind, str(report["environment"]["threads"])]
            for name in ("jaxser", "jaxser, with input gradient"):
                line.append(digits(statistics.median(sides[kind, name]["utterances_per_s"])))
            for peer in peers:
                each = found.get((f"{kind} front end, batch {report['batch']}", peer))
                line.append("–" if each is None else reach(each.ratio, each.spread))
            table.append([*line, f"{own['apart']:.1e}"])
    return table

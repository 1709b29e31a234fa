"""What ``benchmarks`` measured beside peers, from the files that it left.

    comparisons, others = read_comparisons(Path("benchmarks/results"))

Each file is of one benchmark, which has a layout of its own; all say how many rows a second jaxser
and a peer make of the same work, taking turns in one run, on which machine.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxser.reporting.grouping import grouped
from jaxser.runtime.errors import InputError
from jaxser.runtime.files import read_json
from jaxser.runtime.text import one_line

__all__ = ["Comparison", "comparisons_of", "pairs_of_sides", "read_comparisons"]

_AGAIN = "measure it again or take it away"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The same work done by jaxser and by a peer.

    Attributes:
      work: attack, or what else was done.
      model: that it was done on; "" without one.
      seconds: of speech in a row; NaN where that is not said.
      peer: what it is compared with.
      rows_per_s, peer_rows_per_s: median of the turns; NaN where only the ratio was kept.
      ratio: median of the turns; above 1 where jaxser is faster.
      spread: the smallest and the largest ratio.
      compile_s: jaxser's, before the first turn; NaN where it was not measured.
      queries, peer_queries: of a row; NaN likewise.
      device: with the threads of each side.
    """

    work: str
    model: str
    seconds: float
    peer: str
    rows_per_s: float
    peer_rows_per_s: float
    ratio: float
    spread: tuple[float, float]
    device: str
    compile_s: float = float("nan")
    queries: float = float("nan")
    peer_queries: float = float("nan")


def read_comparisons(folder: Path) -> tuple[list[Comparison], list[str]]:
    """All comparisons with a peer in a folder, and the files that have none.

    Raises:
      InputError: no files, or one that is damaged.
    """
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not paths:
        raise InputError(f"{folder} holds no *.json of benchmarks; give benchmarks/results.")
    found: list[Comparison] = []
    others = []
    for path in paths:
        report = read_json(path, _AGAIN)
        try:
            its = list(comparisons_of(report))
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            raise InputError(
                f"{path} is not what a benchmark writes ({type(error).__name__}: "
                f"{one_line(error)}); {_AGAIN}."
            ) from None
        found += its
        if not its:
            others.append(path.name)
    if not found:
        raise InputError(f"{folder} has no comparison with a peer; give benchmarks/results.")
    return found, others


def comparisons_of(report: Mapping[str, Any]) -> Iterator[Comparison]:
    """Of the content of a file, of whatever benchmark; nothing where it has no peer."""
    device = _device(report["environment"])
    if "cells" in report:
        yield from _of_cells(report, device)
    for each in report.get("comparisons", []):
        yield from (
            _of_attack(each, report, device) if "attack" in each else _of_training(each, device)
        )
    measured = report.get("measured")
    # A benchmark without a peer measures something else.
    if isinstance(measured, list) and measured:
        if "side" in measured[0]:
            yield from _of_sides(measured, report, device)
        elif "utterances_per_s" in measured[0]:
            yield from _of_names(measured, report, device)


def _turns(
    rates: Sequence[float], peer_rates: Sequence[float], ratios: Sequence[float] | None = None
) -> dict[str, Any]:
    """Fields of a comparison from the turns of both sides."""
    # The ratio of each pair of turns, and only then the median: what slows the machine for a while
    # slows neighbouring turns alike.
    if ratios is None:
        ratios = [mine / its for mine, its in zip(rates, peer_rates, strict=True)]
    return {
        "rows_per_s": statistics.median(rates),
        "peer_rows_per_s": statistics.median(peer_rates),
        "ratio": statistics.median(ratios),
        "spread": (min(ratios), max(ratios)),
    }


def _device(environment: Mapping[str, Any]) -> str:
    threads = environment.get("threads")
    return f"{environment['device']}, {threads} threads" if threads else str(environment["device"])


def _of_attack(
    each: Mapping[str, Any], report: Mapping[str, Any], device: str
) -> Iterator[Comparison]:
    """Of benchmarks.attacks."""
    work = ", ".join([each["attack"], *(_told(*item) for item in each["work"].items())])
    whole = Comparison(
        work=work.replace("_trainable", ", weights with gradients"),
        model=Path(report["victim"]).name,
        seconds=each["seconds"],
        peer=each["peer"],
        **_turns(each["rows_per_s"], each["peer_rows_per_s"], each["ratios"]),
        device=device,
        compile_s=each["compile_s"],
        queries=each["queries"],
        peer_queries=each["peer_queries"],
    )
    yield whole
    if each["making_ratios"]:
        nothing = [float("nan")]
        yield dataclasses.replace(
            whole,
            work=f"{work}, without scoring",
            **_turns(nothing, nothing, each["making_ratios"]),
        )


def _told(name: str, value: Any) -> str:
    """A setting of a benchmark in words."""
    if name == "epsilons":
        return f"ε {value[0]:g}" if len(value) == 1 else f"{len(value)} ε"
    return f"{name} {value:g}"


def _of_training(each: Mapping[str, Any], device: str) -> Iterator[Comparison]:
    """Of benchmarks.train_throughput."""
    yield Comparison(
        work=f"{each['task']}, batch {each['batch']}",
        model=each["model"],
        seconds=each["seconds"],
        peer="torch",
        **_turns(each["jax_samples_per_s"], each["torch_samples_per_s"], each["ratios"]),
        device=device,
        compile_s=each["jax_compile_s"],
    )


def _of_sides(
    measured: Sequence[Mapping[str, Any]], report: Mapping[str, Any], device: str
) -> Iterator[Comparison]:
    """Of benchmarks.foundation and benchmarks.generator, which measure several sides in turn."""
    for mine, peer in pairs_of_sides(measured):
        side = mine["side"].removeprefix("jaxser").strip()
        work = [mine["task"], *([side] if side else []), f"batch {mine['batch']}"]
        yield Comparison(
            work=", ".join(work),
            model=mine.get("model", "waveunet"),
            seconds=mine.get("seconds", report.get("seconds", float("nan"))),
            peer=peer["side"],
            **_turns(mine["rows_per_s"], peer["rows_per_s"]),
            device=device,
        )


def pairs_of_sides(
    measured: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """What jaxser and what a peer did of the same task in the same turns, for all of both."""
    runs: list[list[Mapping[str, Any]]] = []
    for each in measured:
        # A side that is there already begins the next run.
        same = runs and _task(runs[-1][0]) == _task(each)
        if not same or each["side"] in [other["side"] for other in runs[-1]]:
            runs.append([])
        runs[-1].append(each)
    for sides in runs:
        own = [each for each in sides if each["side"].startswith("jaxser")]
        yield from itertools.product(own, [each for each in sides if each not in own])


def _task(each: Mapping[str, Any]) -> tuple[str, str]:
    return each.get("model", ""), each["task"]


def _of_names(
    measured: Sequence[Mapping[str, Any]], report: Mapping[str, Any], device: str
) -> Iterator[Comparison]:
    """Of benchmarks.features."""
    rates = {(each["kind"], each["name"]): each["utterances_per_s"] for each in measured}
    for (kind, name), rate in rates.items():
        if not name.startswith("jaxser"):
            yield Comparison(
                work=f"{kind} front end, batch {report['batch']}",
                model="",
                seconds=report["seconds"],
                peer=name,
                **_turns(rates[kind, "jaxser"], rate),
                device=device,
            )


def _of_cells(report: Mapping[str, Any], device: str) -> Iterator[Comparison]:
    """Of benchmarks.systematic: settings of an attack were run one after the other, beside ART."""
    for attack, cells in grouped(report["cells"], lambda cell: cell["attack"]).items():
        rows, seconds, its_seconds = (
            sum(cell[key] for cell in cells) for key in ("rows", "seconds", "peer_seconds")
        )
        ratios = [cell["peer_seconds"] / cell["seconds"] for cell in cells]
        yield Comparison(
            work=f"{attack}, {len(cells)} setting{'s' if len(cells) > 1 else ''}",
            model=report["victim"],
            seconds=float("nan"),
            peer="art",
            rows_per_s=rows / seconds,
            peer_rows_per_s=rows / its_seconds,
            # Of all settings together: they take very different times.
            ratio=its_seconds / seconds,
            spread=(min(ratios), max(ratios)),
            device=device,
            compile_s=max(cell["compile_seconds"] for cell in cells),
        )

"""Attack victims as a paper did: ``python -m jaxser.evaluate TABLE.yaml --victim runs/NAME ...``.

    python -m jaxser.evaluate configs/tables/systematic_table5.yaml --victim runs/cnn_lstm_emodb

A table file lists attacks, each with a grid of settings. Every setting is a run of python -m
jaxser.attack with rows of its own; what is there already is not made again. The table shows the
setting of each attack that leaves the least accuracy (of equals, the one with the smallest change),
for all utterances and by gender, beside what the paper printed.
"""

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxser.config import AttackCommandConfig, AttackedCorpusConfig, from_mapping, load_yaml
from jaxser.errors import UsageError, nearest_name, report_errors

if TYPE_CHECKING:
    import pyarrow as pa

    from jaxser.corpora import Corpus

__all__ = [
    "Attacked",
    "Line",
    "Published",
    "Table",
    "best_lines",
    "format_lines",
    "load_table",
    "main",
    "settings",
]

_GROUPS = ("all", "female", "male")


@dataclasses.dataclass(frozen=True)
class Attacked:
    """One attack of a table.

    Attributes:
      attack: name, or a YAML file of name and parameters.
      name: what the table calls it; the attack by default.
      parameters: hyper-parameters.
      grid: hyper-parameters of which every value is tried, with every value of the others.
      epsilon: budgets; each is a setting of its own.
    """

    attack: str = "fgsm"
    name: str = ""
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    grid: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    epsilon: tuple[float, ...] = ()

    @property
    def title(self) -> str:
        return self.name or Path(self.attack).stem


@dataclasses.dataclass(frozen=True)
class Published:
    """What a paper printed of one attack on one corpus: of all, female and male utterances.

    Attributes:
      accuracy: after the attack.
      mean_abs: mean absolute change of a feature.
    """

    accuracy: tuple[float, ...] = ()
    mean_abs: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """A table file.

    Attributes:
      title: of the table.
      domain: what is changed, as in python -m jaxser.attack.
      y: label that is attacked: "truth" or "prediction".
      attacks: its lines.
      published: corpus name -> name of a line, or "original" for no attack -> figures.
    """

    title: str = ""
    domain: Literal["waveform", "features"] = "waveform"
    y: Literal["truth", "prediction"] = "truth"
    attacks: list[Attacked] = dataclasses.field(default_factory=list)
    published: dict[str, dict[str, Published]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Line:
    """One setting of one attack on one victim.

    Attributes:
      attack: title.
      setting: of the grid, and ε.
      rows: attacked.
      accuracy, mean_abs: of "all", "female" and "male", where there are such utterances.
      interval: of the accuracy of all, 95 % by bootstrap over utterances.
      seconds: steady state, all rows.
      compile_seconds: before that.
    """

    attack: str
    setting: str
    rows: int
    accuracy: Mapping[str, float]
    mean_abs: Mapping[str, float]
    interval: tuple[float, float]
    seconds: float
    compile_seconds: float


def settings(entry: Attacked) -> Iterator[dict[str, Any]]:
    """The hyper-parameters of every setting of the grid."""
    for values in itertools.product(*entry.grid.values()):
        yield dict(zip(entry.grid, values, strict=True))


def load_table(path: Path) -> Table:
    """Read a table file; UsageError for what is not known or missing."""
    values = load_yaml(path)
    entries = values.get("attacks")
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{path} must list attacks: under 'attacks'.")
    checked = [from_mapping(Attacked, entry, str(path)) for entry in entries]
    table = from_mapping(Table, {**values, "attacks": []}, str(path))
    titles = ["original", *(entry.title for entry in checked)]
    for corpus in table.published.values():
        for name in corpus:
            if name not in titles:
                raise UsageError(
                    f"{path} has published figures of {name!r}, which is no attack there; "
                    f"{nearest_name(name, titles)}"
                )
    return dataclasses.replace(table, attacks=checked)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, print; returns the exit status."""
    args = _arguments(argv)
    table = load_table(args.table)
    titles = [entry.title for entry in table.attacks]
    for name in args.attacks or ():
        if name not in titles:
            raise UsageError(f"{args.table} has no attack {name!r}; {nearest_name(name, titles)}")
    chosen = [entry for entry in table.attacks if entry.title in (args.attacks or titles)]

    from jaxser.compilation import enable_compilation_cache

    enable_compilation_cache()
    pairs = [(entry, setting) for entry in chosen for setting in settings(entry)]
    everything: list[tuple[Path, Line]] = []
    for victim in args.victim:
        common = AttackCommandConfig(
            victim=victim,
            domain=args.domain or table.domain,
            y=table.y,
            limit=args.limit,
            seed=args.seed,
            batch_size=args.batch_size,
            corpus=AttackedCorpusConfig(root=args.root),
        )
        lines: list[Line] = []
        for entry, setting in pairs:
            rows, corpus = _attack(common, entry, setting)
            lines += _lines(entry, setting, rows)
        everything += [(victim, line) for line in lines]
        clean = _accuracy(rows, "clean_prediction")
        print(f"{table.title}: {victim}, {corpus.title}")
        print(format_lines(best_lines(lines), clean, table.published.get(corpus.name, {})))
    if args.out is not None:
        _write_csv(args.out, everything)
        print(f"every setting in {args.out}")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxser.evaluate",
        description="Attack victims with all attacks of a table file, and show the strongest "
        "setting of each beside what the paper printed.",
    )
    parser.add_argument("table", type=Path, metavar="TABLE.yaml")
    parser.add_argument(
        "--victim", type=Path, nargs="+", required=True, metavar="RUN", help="run folders"
    )
    parser.add_argument("--attacks", nargs="+", metavar="NAME", help="of the table; all by default")
    parser.add_argument("--root", type=Path, help="folder of the corpus, where it has moved")
    parser.add_argument("--domain", choices=("waveform", "features"), help="not the table's own")
    parser.add_argument("--limit", type=int, help="utterances to attack, spread over the part")
    parser.add_argument("--seed", type=int, default=0, help="of random starts")
    parser.add_argument("--batch_size", type=int, help="rows per batch; found by memory by default")
    parser.add_argument("--out", type=Path, help="CSV file of every setting")
    return parser.parse_args(argv)


def _params(values: Mapping[str, Any]) -> tuple[str, ...]:
    def text(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return tuple(f"{name}={text(value)}" for name, value in values.items())


def _attack(
    common: AttackCommandConfig, entry: Attacked, setting: Mapping[str, Any]
) -> tuple["pa.Table", "Corpus"]:
    """Rows of one setting, made now where they are missing."""
    from jaxser.attack import attack_missing_rows, prepare_run

    config = dataclasses.replace(
        common,
        attack=entry.attack,
        epsilon=tuple(entry.epsilon),
        params=_params({**entry.parameters, **setting}),
    )
    run = prepare_run(config)
    attack_missing_rows(run)
    return run.rows(), run.prepared.corpus


def _accuracy(rows: "pa.Table", column: str) -> dict[str, float]:
    """Share of rows whose ``column`` is the label, by group."""
    import numpy as np

    right = np.array(rows[column].to_pylist()) == np.array(rows["label"].to_pylist())
    return _by_group(rows, right.astype(float))


def _by_group(rows: "pa.Table", values: Any) -> dict[str, float]:
    import numpy as np

    genders = np.array(rows["gender"].to_pylist())
    masks = {"all": np.ones(len(genders), bool)}
    masks |= {gender: genders == gender for gender in _GROUPS[1:]}
    return {group: float(values[mask].mean()) for group, mask in masks.items() if mask.any()}


def _lines(entry: Attacked, setting: Mapping[str, Any], rows: "pa.Table") -> list[Line]:
    """A line per ε of one run."""
    import numpy as np
    import pyarrow.compute as pc

    from jaxser.results import summarise

    lines = []
    for summary in summarise(rows):
        its = rows.filter(pc.equal(rows["epsilon"], summary.epsilon))
        values = dict(setting)
        if len(entry.epsilon) > 1:
            values["epsilon"] = summary.epsilon
        robust = summary.robust_accuracy
        lines.append(
            Line(
                attack=entry.title,
                setting=" ".join(f"{name} {value}" for name, value in values.items()),
                rows=len(its),
                accuracy=_accuracy(its, "prediction"),
                mean_abs=_by_group(its, np.array(its["mean_abs"].to_pylist(), float)),
                interval=(robust.low, robust.high),
                seconds=float(np.sum(its["seconds"].to_numpy())),
                compile_seconds=summary.compile_seconds,
            )
        )
    return lines


def best_lines(lines: Sequence[Line]) -> list[Line]:
    """Of each attack the line with the least accuracy; of equals, the smallest change."""
    best: dict[str, Line] = {}
    for line in lines:
        rank = (line.accuracy["all"], line.mean_abs["all"])
        held = best.get(line.attack)
        if held is None or rank < (held.accuracy["all"], held.mean_abs["all"]):
            best[line.attack] = line
    return list(best.values())


def format_lines(
    lines: Sequence[Line], clean: Mapping[str, float], published: Mapping[str, Published]
) -> str:
    """Aligned text: accuracy and mean change of all, female and male, with the paper's."""
    head = ["attack", "setting", "rows", "accuracy (95 %)", "female", "male", "paper"]
    head += ["mean |Δ|", "female", "male", "paper", "seconds", "compile"]
    cells = [head]
    if lines:
        none = [""] * 6
        paper = _published(published.get("original"), "accuracy")
        groups = [_figure(clean.get(group)) for group in _GROUPS]
        cells.append(["original", "", str(lines[0].rows), *groups, paper, *none])
    for line in lines:
        low, high = line.interval
        figures = published.get(line.attack)
        cells.append(
            [
                line.attack,
                line.setting,
                str(line.rows),
                f"{line.accuracy['all']:.3f} ({low:.3f}–{high:.3f})",
                *(_figure(line.accuracy.get(group)) for group in _GROUPS[1:]),
                _published(figures, "accuracy"),
                *(_figure(line.mean_abs.get(group), ".3g") for group in _GROUPS),
                _published(figures, "mean_abs"),
                f"{line.seconds:.1f}",
                f"{line.compile_seconds:.1f}",
            ]
        )
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _figure(value: float | None, spec: str = ".3f") -> str:
    return "" if value is None else format(value, spec)


def _published(figures: Published | None, name: str) -> str:
    values = getattr(figures, name) if figures is not None else ()
    return "/".join(f"{value:.3g}" for value in values)


def _write_csv(path: Path, everything: Sequence[tuple[Path, Line]]) -> None:
    import csv
    import io

    from jaxser.files import write_text

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{figure}_{group}" for figure in ("accuracy", "mean_abs") for group in _GROUPS]
    writer.writerow(["victim", "attack", "setting", "rows", *names, "seconds", "compile_seconds"])
    for victim, line in everything:
        figures = [
            values.get(group, "") for values in (line.accuracy, line.mean_abs) for group in _GROUPS
        ]
        row = [victim, line.attack, line.setting, line.rows, *figures]
        writer.writerow([*row, line.seconds, line.compile_seconds])
    write_text(path, text.getvalue())


if __name__ == "__main__":
    sys.exit(report_errors(main))

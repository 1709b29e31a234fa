"""Attack victims as a paper did: ``python -m jaxser.evaluate TABLE.yaml --victim runs/NAME ...``.

    python -m jaxser.evaluate configs/tables/systematic_table5.yaml --victim runs/cnn_lstm_emodb
    python -m jaxser.evaluate configs/tables/systematic_*.yaml --out report --victim \\
        runs/cnn_lstm_emodb_paper runs/cnn_lstm_emovo_paper runs/cnn_lstm_ravdess_paper

A table file lists attacks, each with a grid of settings. Every setting is a run of python -m
jaxser.attack with rows of its own; what is there already is not made again. The table shows the
setting of each attack that leaves the least accuracy (of equals, the one with the smallest change),
for all utterances and by gender, beside what the paper printed. With --out: everything in a folder,
with pictures, and what can be said about languages, genders, protocols and domains.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxser.config import AttackCommandConfig, AttackedCorpusConfig, as_params
from jaxser.papers.table import Attacked, Table, load_table, settings
from jaxser.runtime.errors import UsageError, nearest_name, report_errors

if TYPE_CHECKING:
    from jaxser.driver.speech import Speech
    from jaxser.reporting.evaluation.outcomes import Evaluation, Line

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, print; returns the exit status."""
    args = _arguments(argv)
    tables = [load_table(path) for path in args.table]
    titles = list(dict.fromkeys(title for table in tables for title in table.titles))
    limits = _limits(args.limit, titles)
    tables = _chosen(tables, titles, args.attacks)
    _check_out(args.out)

    from jaxser.reporting.evaluation.report import format_evaluation, write_report
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    done = []
    for table in tables:
        for victim in args.victim:
            done.append(_evaluate(table, victim, limits, args))
            print(format_evaluation(done[-1]), flush=True)
    if args.out is not None:
        write_report(args.out, done)
        print(f"report in {args.out / 'report.md'}")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxser.evaluate",
        description="Attack victims with all attacks of table files, and show the strongest "
        "setting of each beside what the paper printed.",
    )
    parser.add_argument("table", type=Path, nargs="+", metavar="TABLE.yaml")
    parser.add_argument(
        "--victim", type=Path, nargs="+", required=True, metavar="RUN", help="run folders"
    )
    parser.add_argument(
        "--attacks", nargs="+", metavar="NAME", help="of the tables; all by default"
    )
    parser.add_argument("--root", type=Path, help="folder of the corpus, where it has moved")
    parser.add_argument(
        "--limit",
        nargs="+",
        default=[],
        metavar="[NAME=]N",
        help="utterances to attack, spread over the part; of one attack with its name",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random starts")
    parser.add_argument("--batch_size", type=int, help="rows per batch; found by memory by default")
    parser.add_argument("--out", type=Path, help="folder of a report, every setting and pictures")
    return parser.parse_args(argv)


def _chosen(
    tables: Sequence[Table], titles: Sequence[str], names: Sequence[str] | None
) -> list[Table]:
    """The tables with the attacks that are asked for; one table may lack those of another."""
    if names is None:
        return list(tables)
    for name in names:
        if name not in titles:
            raise UsageError(f"no table has {name!r}; {nearest_name(name, titles)}")
    chosen = [
        dataclasses.replace(table, attacks=[a for a in table.attacks if a.title in names])
        for table in tables
    ]
    return [table for table in chosen if table.attacks]


def _limits(texts: Sequence[str], titles: Sequence[str]) -> dict[str | None, int]:
    """``64 JSMA=16``: utterances by attack, and under None those of all others."""
    limits: dict[str | None, int] = {}
    for text in texts:
        name, equals, count = text.rpartition("=")
        if not count.isdigit() or int(count) < 1:
            raise UsageError(f"--limit {text!r} is neither a number nor NAME=number, such as 64.")
        if equals and name not in titles:
            raise UsageError(
                f"--limit {text!r}: no table has {name!r}; {nearest_name(name, titles)}"
            )
        limits[name if equals else None] = int(count)
    return limits


def _check_out(out: Path | None) -> None:
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give --out a folder.")


def _evaluate(
    table: Table, victim: Path, limits: Mapping[str | None, int], args: argparse.Namespace
) -> "Evaluation":
    """All settings of a table on one victim, and the victim before any attack."""
    from jaxser.experiments.attack import load_speech
    from jaxser.reporting.evaluation.outcomes import Evaluation
    from jaxser.victims.victim import read_run

    trained, _ = read_run(victim)
    common = AttackCommandConfig(
        victim=victim,
        domain=table.domain,
        y=table.y,
        seed=args.seed,
        batch_size=args.batch_size,
        corpus=AttackedCorpusConfig(root=args.root),
    )
    speech = load_speech(common)
    lines: list[Line] = []
    for entry in table.attacks:
        limit = limits.get(entry.title, limits.get(None))
        for setting in settings(entry):
            config = dataclasses.replace(
                common,
                attack=entry.attack,
                epsilon=tuple(entry.epsilon),
                params=as_params({**entry.parameters, **setting}),
                limit=limit,
            )
            lines += _lines(config, speech, entry, setting)
    return Evaluation(
        victim=victim, trained=trained, table=table, speech=speech, lines=tuple(lines)
    )


def _lines(
    config: AttackCommandConfig, speech: "Speech", entry: Attacked, setting: Mapping[str, Any]
) -> list["Line"]:
    """A line per ε of one run, whose rows are made now where they are missing."""
    import numpy as np
    import pyarrow.compute as pc

    from jaxser.experiments.attack import attack_missing_rows, prepare_run
    from jaxser.reporting.evaluation.outcomes import Line, outcomes_of

    run = prepare_run(config, speech)
    right = run.speech.clean.prediction == run.speech.labels
    # A picture is of the first utterance that the victim knows; of the first where it knows none.
    example = int(right.argmax())
    run = dataclasses.replace(run, example=example)
    attack_missing_rows(run)
    rows = run.rows()
    lines = []
    for epsilon in run.epsilons:
        its = rows.filter(pc.equal(rows["epsilon"], epsilon))
        values = dict(setting) | ({"epsilon": epsilon} if len(run.epsilons) > 1 else {})
        lines.append(
            Line(
                attack=entry.title,
                setting=" ".join(f"{name} {value}" for name, value in values.items()),
                outcomes=outcomes_of(its),
                seconds=float(np.sum(its["seconds"].to_numpy())),
                compile_seconds=float(np.max(its["compile_seconds"].to_numpy())),
                example=(
                    run.utterances[example],
                    run.example_path(run.utterances[example], epsilon),
                ),
            )
        )
    return lines


if __name__ == "__main__":
    sys.exit(report_errors(main))

"""Attack victims as a paper did: ``python -m jaxser.evaluate TABLE.yaml --victim runs/NAME ...``.

    python -m jaxser.evaluate configs/tables/systematic_table5.yaml --victim runs/cnn_lstm_emodb
    python -m jaxser.evaluate configs/tables/systematic_table5.yaml --out report --victim \\
        runs/cnn_lstm_emodb_paper runs/cnn_lstm_emovo_paper runs/cnn_lstm_ravdess_paper

A table file lists attacks, each with a grid of settings. Every setting is a run of python -m
jaxser.attack with rows of its own; what is there already is not made again. The table shows the
setting of each attack that leaves the least accuracy (of equals, the one with the smallest change),
for all utterances and by gender, beside what the paper printed. With --out: everything in a folder,
with pictures, and what can be said about languages, genders, protocols and domains.

    python -m jaxser.evaluate configs/tables/benchmark_table1.yaml --corpus emodb=FOLDER

Tables that say how their victims are trained (benchmark_table1 and 2a, systematic_table1 and 2,
staa_net_table2 and 3) take speech instead of victims: what is missing is trained first.
"""

import sys
from collections.abc import Sequence

from jaxser.config.evaluate import EvaluateConfig, check_tables, parse_evaluate
from jaxser.papers.table import Table, load_table, with_attacks
from jaxser.runtime.errors import UsageError, nearest_name, report_errors
from jaxser.runtime.stages import start, took
from jaxser.runtime.terminal import terminal_width, wrapped

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, print; returns the exit status."""
    config = parse_evaluate(argv)
    if check_tables(config):
        return _train_tables(config)
    if not config.victim:
        raise UsageError("say which victims to attack, --victim RUN.")
    tables = [load_table(path) for path in config.table]
    limits = _limits(config.limit, tables)
    tables = with_attacks(tables, config.attacks)

    # JAX and the rest take seconds to import: after --help and after a mistyped flag.
    start("loading JAX")
    from jaxser.experiments.evaluate import evaluate_victim
    from jaxser.reporting.evaluation.report import format_evaluation, write_report
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    done, width = [], terminal_width()
    for table in tables:
        for victim in config.victim:
            done.append(evaluate_victim(table, victim, limits, config))
            print(wrapped(format_evaluation(done[-1], width), width), flush=True)
    print(wrapped(took(), width))
    if config.out is not None:
        write_report(config.out, done)
        print(f"report in {config.out / 'report.md'}")
    return 0


def _train_tables(config: EvaluateConfig) -> int:
    """Tables whose victims are trained where they are missing, each printed as it is made."""
    start("loading JAX")
    from jaxser.experiments.trained_tables import make_tables
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    for text in make_tables(config.table, config, say=print):
        print(wrapped(text, terminal_width()), flush=True)
    print(wrapped(took(), terminal_width()))
    return 0


def _limits(texts: Sequence[str], tables: Sequence[Table]) -> dict[str | None, int]:
    """``64 JSMA=16``: utterances by attack, and under None those of all others."""
    titles = _titles(tables)
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


def _titles(tables: Sequence[Table]) -> list[str]:
    return list(dict.fromkeys(title for table in tables for title in table.titles))


if __name__ == "__main__":
    sys.exit(report_errors(main))

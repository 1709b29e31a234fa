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

import sys
from collections.abc import Sequence

from jaxser.config.evaluate import parse_evaluate
from jaxser.papers.table import load_table
from jaxser.runtime.errors import report_errors

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, print; returns the exit status."""
    config = parse_evaluate(argv)
    tables = [load_table(path) for path in config.table]

    from jaxser.experiments.evaluate import chosen_attacks, evaluate_victim, limits_of
    from jaxser.reporting.evaluation import format_evaluation, write_report
    from jaxser.runtime.compilation import enable_compilation_cache

    limits = limits_of(config.limit, tables)
    chosen = chosen_attacks(tables, config.attacks)
    enable_compilation_cache()
    done = []
    for table in chosen:
        for victim in config.victim:
            done.append(evaluate_victim(table, victim, limits, config))
            print(format_evaluation(done[-1]), flush=True)
    if config.out is not None:
        write_report(config.out, done)
        print(f"report in {config.out / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))

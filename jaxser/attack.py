"""Attack a victim: ``python -m jaxser.attack --victim runs/NAME --attack pgd --epsilon 0.01``.

It prints clean and robust figures per ε and leaves one row per utterance and ε in Parquet files.
A run that was stopped goes on when the same command is given again: rows that are there stay.
Ctrl-C, SIGTERM and SIGHUP write the rows that are finished; the exit status is 130, 143 or 129. The
second one ends it at once.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxser.config import AttackCommandConfig
from jaxser.config.attack import ATTACK_FLAGS
from jaxser.config.command_line import parse_command_and
from jaxser.config.parser import command_name
from jaxser.runtime.determinism import add_deterministic_flag, be_deterministic
from jaxser.runtime.errors import report_errors, stopped_status
from jaxser.runtime.stages import start, took
from jaxser.runtime.terminal import terminal_width, wrapped

if TYPE_CHECKING:
    from jaxser.driver.meter import Throughput


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, print; returns the exit status."""
    config, flags = parse_command_and(
        add_deterministic_flag,
        AttackCommandConfig,
        command_name("attack"),
        "Attack a victim on its held-out speech and say how robust it is. Without arguments: "
        "PGD on the demo's victim. docs/attacks.md has the table of all attacks.",
        argv,
        ATTACK_FLAGS,
    )
    # JAX and the rest take seconds to import: after --help and after a mistyped flag.
    start("loading JAX")
    from jaxser.experiments.attack import attack_missing_rows
    from jaxser.experiments.examples import told_files
    from jaxser.experiments.preparation import prepare_run
    from jaxser.results.attack_tables import attack_tables
    from jaxser.runtime.compilation import enable_compilation_cache

    be_deterministic(config.out, flags.deterministic)
    enable_compilation_cache()
    if config.suite is not None:
        return _suite(config)
    run = None
    try:
        run = prepare_run(config)
        throughput = attack_missing_rows(run)
    except KeyboardInterrupt as error:
        kept = f"{len(run.rows())} rows are kept in {run.out}" if run else "no row is made yet"
        print(f"interrupted: {kept}; the same command goes on from there.", file=sys.stderr)
        return stopped_status(error)
    rows, width = run.rows(), None if config.wide else terminal_width()
    labels, over = run.speech.victim.labels, config.interval_over
    tables = attack_tables(rows, labels, by=config.by, over=over, width=width)
    text = [run.headline(), tables]
    text += [_speed(throughput, len(rows)), took(), *told_files(run), f"rows in {run.out}"]
    print(wrapped("\n".join(text), width))
    return 0


def _suite(config: AttackCommandConfig) -> int:
    """All attacks of a suite, and the worst case of them."""
    import pyarrow as pa

    from jaxser.experiments.suite import suite_runs
    from jaxser.results.worst_case import robustness_table

    told: set[str] = set()
    runs, width = [], None if config.wide else terminal_width()
    try:
        for run, throughput in suite_runs(config):
            runs.append(run)
            # What all attacks have in common, such as notes on the speech, is said once.
            new = [line for line in run.headline().splitlines() if line not in told]
            told.update(new)
            said = [*new, _speed(throughput, len(run.rows())), ""]
            print(wrapped("\n".join(said), width), flush=True)
    except KeyboardInterrupt as error:
        print("interrupted: finished rows are kept; the same command goes on.", file=sys.stderr)
        return stopped_status(error)
    rows = pa.concat_tables([run.rows() for run in runs])
    table = robustness_table(rows, config.interval_over, width)
    text = [f"{runs[0].config.suite}:", table, took(), f"rows in {runs[0].out.parent}"]
    print(wrapped("\n".join(text), width))
    return 0


def _speed(throughput: "Throughput", rows: int) -> str:
    if throughput.rows == 0:
        return f"all {rows} rows were there already"
    wasted = throughput.wasted_row_steps / max(1, throughput.row_steps)
    return (
        f"{throughput.rows} rows in {throughput.seconds:.1f} s, {throughput.rows_per_second:.2f} "
        f"rows/s steady state, after {throughput.compile_seconds:.1f} s of compilation "
        f"({throughput.compile_count} programs); "
        f"{wasted:.1%} of the attack steps fell on empty or finished slots"
    )


if __name__ == "__main__":
    sys.exit(report_errors(main))

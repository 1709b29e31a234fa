"""Reports from rows alone: ``python -m jaxser.report RUN [RUN ...] --out report.html``.

    python -m jaxser.report runs/sweep --out report.html
    python -m jaxser.report runs/emo18_emodb runs/zhao19_emodb --out report.html --csv tables \\
        --markdown tables --latex tables --figures figures
    python -m jaxser.report --compare runs/sweep_before runs/sweep_after --out compared.html
    python -m jaxser.report runs/sweep --table configs/tables/staa_net_table4.yaml --audio 2
    python -m jaxser.report --speed benchmarks/results --markdown tables

A run is a folder that holds rows, at any depth: a sweep's, a victim's, or that of one attack, or
certificates of python -m jaxser.certify, whose curves come at the end. The
page is one file without any other, needs no network, and its tables sort. No accelerator is used,
but by --audio, which attacks a few utterances again.
"""

import sys
from collections.abc import Sequence

from jaxser.config.report import parse_report
from jaxser.runtime.errors import report_errors
from jaxser.runtime.stages import stage, start, took
from jaxser.runtime.terminal import terminal_width, wrapped

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, read, write; returns the exit status."""
    config = parse_report(argv)

    # Rows are read with pyarrow: after --help and after a mistyped flag.
    start("reading the rows")
    from jaxser.experiments.report import report_sections, row_groups
    from jaxser.reporting.document import html_document
    from jaxser.reporting.loading import load
    from jaxser.reporting.table_files import write_figures, write_tables
    from jaxser.runtime.files import write_text

    loaded = [(runs, load(runs, config.interval_over)) for runs in row_groups(config)]
    stage("making the page")
    made = list(report_sections(config, [rows for _, rows in loaded]))
    write_text(config.out, html_document(loaded, made))
    print(wrapped(took(), terminal_width()))
    of = f" of {sum(len(rows) for _, rows in loaded):,} rows" if loaded else ""
    print(f"report{of} in {config.out}")
    for folder, suffix in ((config.csv, ".csv"), (config.markdown, ".md"), (config.latex, ".tex")):
        if folder is not None:
            write_tables(made, folder, suffix)
            print(f"tables in {folder}")
    if config.figures is not None:
        write_figures(made, config.figures)
        print(f"figures in {config.figures}")
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))

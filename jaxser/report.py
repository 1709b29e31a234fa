"""Reports from rows alone: ``python -m jaxser.report RUN [RUN ...] --out report.html``.

    python -m jaxser.report runs/sweep --out report.html
    python -m jaxser.report runs/emo18_emodb runs/zhao19_emodb --out report.html --csv tables \\
        --markdown tables --latex tables
    python -m jaxser.report --compare runs/sweep_before runs/sweep_after --out compared.html

A run is a folder that holds rows, at any depth: a sweep's, a victim's, or that of one attack. The
page is one file without any other, needs no network, and its tables sort. No accelerator is used.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxser import __version__
from jaxser.errors import UsageError, report_errors

if TYPE_CHECKING:
    from jaxser.report_data import Rows
    from jaxser.report_page import Section

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, read, write; returns the exit status."""
    args = _arguments(argv)
    if args.out.suffix != ".html":
        raise UsageError(f"--out {args.out} must end in .html.")
    for folder in (args.csv, args.markdown, args.latex):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; give a folder for the tables.")

    from jaxser.files import write_text
    from jaxser.report_compare import comparison
    from jaxser.report_data import load
    from jaxser.report_page import sections

    # Folders that are one thing, with their rows.
    groups = [[run] for run in args.compare] if args.compare else [args.run]
    loaded = [(runs, load(runs)) for runs in groups]
    if args.compare:
        (_, first), (_, second) = loaded
        made = [comparison(first, second, *map(str, args.compare))]
    else:
        made = sections(loaded[0][1])
    write_text(args.out, _html(loaded, made))
    print(f"report of {sum(len(rows) for _, rows in loaded):,} rows in {args.out}")
    for folder, suffix, form in (
        (args.csv, ".csv", _csv),
        (args.markdown, ".md", _markdown),
        (args.latex, ".tex", _latex),
    ):
        if folder is not None:
            for section in made:
                if section.cells:
                    write_text(folder / f"{section.name}{suffix}", form(section))
            print(f"tables in {folder}")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxser.report",
        description="Make a report from the rows of attacks and sweeps.",
    )
    parser.add_argument("run", type=Path, nargs="*", metavar="RUN", help="folders that hold rows")
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar="RUN", help="two folders side by side, instead"
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="HTML page to write")
    parser.add_argument("--csv", type=Path, metavar="FOLDER", help="all tables as CSV files")
    parser.add_argument("--markdown", type=Path, metavar="FOLDER", help="and as Markdown")
    parser.add_argument("--latex", type=Path, metavar="FOLDER", help="and as LaTeX")
    args = parser.parse_args(argv)
    if bool(args.run) == bool(args.compare):
        raise UsageError("give folders that hold rows, or --compare with two; see --help.")
    return args


def _html(loaded: "Sequence[tuple[list[Path], Rows]]", made: Sequence["Section"]) -> str:
    from jaxser import html_page

    warnings = dict.fromkeys(text for runs, rows in loaded for text in _warnings(runs, rows))
    body = [html_page.paragraph(warning, note=True) for warning in warnings]
    body.append(html_page.heading("What was run"))
    body += [html_page.facts(_what_was_run(runs, rows)) for runs, rows in loaded]
    for section in made:
        body.append(html_page.heading(section.title))
        if section.text:
            body.append(html_page.paragraph(section.text))
        if section.png is not None:
            body.append(html_page.picture(*section.png))
        if section.cells:
            body.append(html_page.table(section.cells, section.title))
    return html_page.page("Robustness report", body)


def _warnings(runs: Sequence[Path], rows: "Rows") -> list[str]:
    """What a reader must know before any figure."""
    found = ["The speech is synthetic: these figures say nothing about people."] * rows.synthetic
    found += rows.notes
    for name, count in sorted(rows.flags.items()):
        found.append(f"{count:,} of {len(rows):,} rows are flagged: {name}.")
    for failed in _failures(runs):
        found.append(f"Failed: {failed}")
    return found


def _failures(runs: Sequence[Path]) -> list[str]:
    """Of the sweeps among the runs."""
    from jaxser.outcomes import read_outcomes

    outcomes = [outcome for run in runs for outcome in read_outcomes(run)]
    return [f"{each.cell}: {each.reason}" for each in outcomes if each.reason]


def _what_was_run(runs: Sequence[Path], rows: "Rows") -> dict[str, str]:
    import numpy as np

    epsilons = np.unique(rows.numbers["epsilon"])
    seeds = np.unique(rows.numbers["seed"]).astype(int)
    facts = {
        "folders": ", ".join(map(str, runs)),
        "rows": f"{len(rows):,}",
        "corpora": ", ".join(rows.distinct("corpus")),
        "parts": ", ".join(rows.distinct("split")),
        "victims": ", ".join(rows.distinct("victim")),
        "utterances": f"{len(rows.distinct('utterance')):,}",
        "ε": ", ".join(f"{value:.4g}" for value in epsilons),
        "seeds": ", ".join(map(str, seeds)),
        "devices": ", ".join(rows.distinct("device")),
        "jaxser": __version__,
    }
    for name, parameters in rows.attacks:
        values = json.loads(parameters)
        told = ", ".join(f"{key} {value}" for key, value in values.items())
        facts[f"attack {rows.labels[name, parameters]}"] = told
    return facts


def _csv(section: "Section") -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(section.cells)
    return file.getvalue()


def _markdown(section: "Section") -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    header, *rest = section.cells
    lines = [f"## {section.title}", "", section.text, "", row(header), "|" + "---|" * len(header)]
    return "\n".join([*lines, *map(row, rest), ""])


def _latex(section: "Section") -> str:
    def row(cells: Sequence[str]) -> str:
        return " & ".join(map(_latex_text, cells)) + r" \\"

    header, *rest = section.cells
    columns = "l" * len(header)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", row(header), r"\hline"]
    return "\n".join([*lines, *map(row, rest), r"\hline", r"\end{tabular}", ""])


def _latex_text(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"ε": r"$\varepsilon$", "–": "--"}
    return "".join(special.get(character, character) for character in text)


if __name__ == "__main__":
    sys.exit(report_errors(main))

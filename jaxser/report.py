"""Reports from rows alone: ``python -m jaxser.report RUN [RUN ...] --out report.html``.

    python -m jaxser.report runs/sweep --out report.html
    python -m jaxser.report runs/emo18_emodb runs/zhao19_emodb --out report.html --csv tables \\
        --markdown tables --latex tables
    python -m jaxser.report --compare runs/sweep_before runs/sweep_after --out compared.html
    python -m jaxser.report runs/sweep --table configs/tables/staa_net_table4.yaml --audio 2
    python -m jaxser.report --speed benchmarks/results --markdown tables

A run is a folder that holds rows, at any depth: a sweep's, a victim's, or that of one attack. The
page is one file without any other, needs no network, and its tables sort. No accelerator is used,
but by --audio, which attacks a few utterances again.
"""

import argparse
import csv
import html
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxser.runtime.errors import UsageError, report_errors
from jaxser.runtime.version import __version__

if TYPE_CHECKING:
    from jaxser.reporting.rows import Rows
    from jaxser.reporting.section import Section

__all__ = ["main"]

_RUN = "What was run"

# Of rows whose files do not say what made them.
_UNTOLD = "not in these rows"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, read, write; returns the exit status."""
    args = _arguments(argv)
    if args.out.suffix != ".html":
        raise UsageError(f"--out {args.out} must end in .html.")
    for folder in (args.csv, args.markdown, args.latex):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; give a folder for the tables.")

    from jaxser.reporting.loading import load
    from jaxser.runtime.files import write_text

    # Folders that are one thing, with their rows.
    groups = [[run] for run in args.compare] if args.compare else [args.run] if args.run else []
    loaded = [(runs, load(runs)) for runs in groups]
    made = list(_sections(args, [rows for _, rows in loaded]))
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
    parser.add_argument(
        "--table",
        type=Path,
        nargs="+",
        default=[],
        metavar="TABLE.yaml",
        help="a paper's tables, filled as far as there are rows, and its seconds beside those here",
    )
    parser.add_argument(
        "--line",
        nargs="+",
        default=[],
        metavar="LINE=RUN",
        help="what a line of a table is of, where rows do not say it: a generator of staanet, or a "
        "victim that was trained against the attack of the line",
    )
    parser.add_argument(
        "--speed", type=Path, metavar="FOLDER", help="of benchmark results: speed beside peers"
    )
    parser.add_argument(
        "--audio",
        type=int,
        metavar="N",
        help="players and pictures of N utterances of every victim and attack, at the weakest "
        "epsilon that succeeded; they are attacked again, which needs the victims and the speech",
    )
    args = parser.parse_args(argv)
    if bool(args.run) == bool(args.compare) and not (args.speed and not args.run):
        raise UsageError("give folders that hold rows, or --compare with two; see --help.")
    if args.compare and (args.table or args.speed or args.audio):
        raise UsageError(
            "--table, --speed and --audio are for one report; leave them out with --compare."
        )
    if args.audio is not None and args.audio < 1:
        raise UsageError(f"--audio {args.audio} is no number of utterances; give 1 or more.")
    if args.audio and not args.run:
        raise UsageError("--audio needs folders that hold rows.")
    if args.table and not args.run and not args.speed:
        raise UsageError("--table needs folders that hold rows, or --speed.")
    if args.line and not args.table:
        raise UsageError("--line is of a table; give --table too.")
    return args


def _sections(args: argparse.Namespace, loaded: "Sequence[Rows]") -> "Iterator[Section]":
    from jaxser.reporting.compare import comparison
    from jaxser.reporting.page import sections
    from jaxser.reporting.speed import speed_sections

    if args.compare:
        first, second = loaded
        yield comparison(first, second, *map(str, args.compare))
        return
    seconds: dict[str, str] = {}
    if args.table:
        # Hyper-parameters are compared as attacks have them, so these import JAX: where asked for.
        from jaxser.reporting.paper_tables.paper import load_papers
        from jaxser.reporting.paper_tables.seconds import seconds_in_papers
        from jaxser.reporting.paper_tables.sections import paper_sections

        papers = load_papers(args.table, args.line)
        seconds = seconds_in_papers(papers)
    for rows in loaded:
        yield from sections(rows, seconds)
        if args.audio:
            from jaxser.experiments.listening import listening
            from jaxser.runtime.compilation import enable_compilation_cache

            enable_compilation_cache()
            yield from listening(rows, args.audio)
        if args.table:
            for paper in papers:
                yield from paper_sections(rows, paper)
    if args.speed:
        yield from speed_sections(args.speed, seconds)


def _html(loaded: "Sequence[tuple[list[Path], Rows]]", made: Sequence["Section"]) -> str:
    from jaxser.reporting import html as html_page
    from jaxser.reporting.warnings import failures, warnings_of

    warnings = dict.fromkeys(
        text for runs, rows in loaded for text in (*failures(runs), *warnings_of(rows))
    )
    titles = [section.group or section.title for section in made]
    named = dict.fromkeys([*([_RUN] if loaded else []), *titles])
    anchors = {title: f"section-{place}" for place, title in enumerate(named, 1)}
    body = [html_page.paragraph(warning, note=True) for warning in warnings]
    body.append(html_page.contents({anchor: title for title, anchor in anchors.items()}))
    if loaded:
        body.append(html_page.heading(_RUN, anchors[_RUN]))
    for runs, rows in loaded:
        body += [html_page.facts(_what_was_run(runs, rows)), _attacks(rows)]
        body += _configs(rows)
    before = ""
    for title, section in zip(titles, made, strict=True):
        if title != before:
            body.append(html_page.heading(title, anchors[title]))
        if title != section.title:
            body.append(html_page.heading(section.title, part=True))
        body += _section(section)
        before = title
    return html_page.page("Robustness report", body)


def _section(section: "Section") -> Iterator[str]:
    from jaxser.reporting import html as html_page

    if section.text:
        yield html_page.paragraph(section.text)
    if section.png is not None:
        yield html_page.picture(*section.png)
    for caption, wav in section.audio.items():
        yield html_page.audio(wav, caption, section.title)
    if section.cells:
        yield html_page.table(section.cells, section.title, hidden=True)


def _what_was_run(runs: Sequence[Path], rows: "Rows") -> dict[str, str]:
    import numpy as np

    epsilons = np.unique(rows.numbers["epsilon"])
    seeds = np.unique(rows.numbers["seed"]).astype(int)
    corpora = {_corpus(source["corpus"]) for source in rows.sources}
    return {
        "folders": ", ".join(map(str, runs)),
        "rows": f"{len(rows):,}",
        "corpora": ", ".join(rows.distinct("corpus")),
        "fingerprints": "; ".join(sorted(corpora)) or _UNTOLD,
        "parts": ", ".join(rows.distinct("split")),
        "victims": ", ".join(rows.distinct("victim")),
        "utterances": f"{len(rows.distinct('utterance')):,}",
        "ε": ", ".join(f"{value:.4g}" for value in epsilons),
        "seeds": ", ".join(map(str, seeds)),
        "devices": ", ".join(rows.distinct("device")),
        "versions": "; ".join(sorted({_versions(source) for source in rows.sources})) or _UNTOLD,
        "report": f"jaxser {__version__}",
    }


def _attacks(rows: "Rows") -> str:
    """A table of all hyper-parameters."""
    from jaxser.reporting import html as html_page

    cells = [["attack", "hyper-parameters"]]
    for name, parameters in rows.attacks:
        values = json.loads(parameters)
        told = ", ".join(f"{key} {value}" for key, value in values.items())
        cells.append([rows.labels[name, parameters], told])
    return html_page.table(cells, "Attacks")


def _corpus(corpus: Mapping[str, Any]) -> str:
    split, seed, fold = corpus["split"]
    print_ = corpus["fingerprint"][:16]
    return f"{corpus['title']}: {print_}, split {split} (seed {seed}, fold {fold})"


def _versions(source: Mapping[str, Any]) -> str:
    environment = source["environment"]
    packages = [f"{name} {version}" for name, version in environment["packages"].items()]
    revision = environment["git_revision"]
    own = f"jaxser {environment['jaxser']}" + (f" ({revision[:10]})" if revision else "")
    return ", ".join([own, f"Python {environment['python']}", *packages])


def _configs(rows: "Rows") -> Iterator[str]:
    """What was the same in the configs of all rows, and a table of what was not."""
    from jaxser.reporting import html as html_page

    configs = [_flat(source["config"]) for source in rows.sources]
    if not configs:
        return
    differ = [key for key in configs[0] if len({each[key] for each in configs}) > 1]
    same = ", ".join(f"{k} {v}" for k, v in configs[0].items() if k not in differ and v != "–")
    yield html_page.paragraph(f"Configs: {same}.")
    if differ:
        lines = dict.fromkeys(tuple(each[key] for key in differ) for each in configs)
        yield html_page.table([differ, *lines], "Where the configs differ")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Fields as flags have them."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            found[prefix + key] = " ".join(map(str, value)) or "–"
        else:
            found[prefix + key] = "–" if value is None else str(value)
    return found


def _csv(section: "Section") -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(section.cells)
    return file.getvalue()


def _markdown(section: "Section") -> str:
    def row(cells: Sequence[str]) -> str:
        # Viewers of Markdown take tags for HTML, and a line's end for the end of the table.
        shown = (html.escape(" ".join(cell.split()), quote=False) for cell in cells)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in shown) + " |"

    header, *rest = section.cells
    lines = [
        f"## {html.escape(section.title, quote=False)}",
        "",
        section.text,
        "",
        row(header),
        "|" + "---|" * len(header),
    ]
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
    special |= {"ε": r"$\varepsilon$", "→": r"$\rightarrow$", "∞": r"$\infty$", "–": "--"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(character, character) for character in text)


if __name__ == "__main__":
    sys.exit(report_errors(main))

"""Write docs/speed.md: the text of notes.md with tables of what the benchmarks measured.

    python -m benchmarks.page
    python -m benchmarks.page --results FOLDER --out PAGE.md

A line of ``notes.md`` such as ``{{generator generator_6s_h100.json --sizes 1 32}}`` is replaced by
what the files of that name, which may hold ``*``, say: the command that measures each of them, with
the flags that stand there because the file does not tell them, and a table of a kind in
:data:`TABLES`. Text stands in ``notes.md`` alone, figures of a file in that file alone.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import command_parser
from benchmarks.page.alone import (
    bookkeeping_table,
    compiled_table,
    refilling_table,
    rows_table,
    scaling_table,
)
from benchmarks.page.beside_peers import (
    adversarial_table,
    attacks_table,
    features_table,
    images_table,
    sides_table,
    smoothing_table,
    summary_table,
    systematic_table,
    training_table,
    whole_attacks_table,
)
from benchmarks.page.of_accelerators import (
    accelerator_compiled_table,
    accelerator_table,
    ceilings_table,
)
from benchmarks.page.origin import origin
from benchmarks.page.table import Table, markdown
from jaxser.reporting.benchmarks import read_comparisons
from jaxser.runtime.errors import UsageError, report_errors
from jaxser.runtime.files import write_text

__all__ = ["TABLES", "main", "page"]

NOTES = Path(__file__).with_name("notes.md")

# Kind of table -> the benchmark's module, and what makes the table of its files.
TABLES: dict[str, tuple[str, Callable[[Sequence[Any]], Table]]] = {
    "attacks": ("attacks", attacks_table),
    "systematic": ("systematic", systematic_table),
    "training": ("train_throughput", training_table),
    "foundation": ("foundation", sides_table),
    "generator": ("generator", sides_table),
    "whole_attacks": ("generator", whole_attacks_table),
    "images": ("images", images_table),
    "smoothing": ("smoothing", smoothing_table),
    "adversarial": ("adversarial", adversarial_table),
    "features": ("features", features_table),
    "compiled": ("compiled", compiled_table),
    "ceilings": ("accelerator", ceilings_table),
    "accelerator": ("accelerator", accelerator_table),
    "accelerator_compiled": ("accelerator", accelerator_compiled_table),
    "refilling": ("refilling", refilling_table),
    "rows": ("rows", rows_table),
    "bookkeeping": ("bookkeeping", bookkeeping_table),
    "scaling": ("scaling", scaling_table),
}

_PLACE = re.compile(r"^\{\{(\w+) ?(\S*) ?(.*)\}\}$", re.MULTILINE)


def main(argv: list[str] | None = None) -> int:
    """Parse, read, write; returns the exit status."""
    parser = command_parser("page", __doc__)
    parser.add_argument(
        "--results", type=Path, default=Path("benchmarks/results"), metavar="FOLDER"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/speed.md"), help="page to write")
    args = parser.parse_args(argv)
    write_text(args.out, page(args.results))
    print(f"{args.out} has all of {args.results}")
    return 0


def page(results: Path, notes: str | None = None) -> str:
    """The page.

    Args:
      results: folder of what the benchmarks wrote.
      notes: the text with its places for tables; that of this folder by default.

    Raises:
      InputError: no files, or one that is damaged.
      UsageError: a file without a place on the page, or a place without a file.
    """
    comparisons, _ = read_comparisons(results)
    reports = {
        path.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(results.glob("*.json"))
    }
    shown: set[str] = set()

    def filled(place: re.Match[str]) -> str:
        kind, pattern, flags = place.groups()
        if kind == "summary":
            return markdown(summary_table(comparisons))
        names = [name for name in reports if Path(name).match(pattern)]
        if not names or kind not in TABLES:
            raise UsageError(
                f"{NOTES.name} wants a table {kind!r} of {pattern}; {results} has {len(names)} of "
                f"these, and the tables are {', '.join(TABLES)}."
            )
        shown.update(names)
        chosen = {name: reports[name] for name in names}
        benchmark, table_of = TABLES[kind]
        table = markdown(table_of(list(chosen.values())))
        return f"{origin(benchmark, chosen, flags)}\n\n{table}"

    text = _PLACE.sub(filled, NOTES.read_text(encoding="utf-8") if notes is None else notes)
    absent = [name for name in reports if name not in shown]
    if absent:
        raise UsageError(
            f"{', '.join(absent)} of {results} has no place on the page; give it one in "
            f"benchmarks/page/{NOTES.name}."
        )
    return text


if __name__ == "__main__":
    sys.exit(report_errors(main))

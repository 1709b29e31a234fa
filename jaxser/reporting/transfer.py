"""The table of transfer as text, and as Markdown, HTML and CSV files.

print(format_transfer(table, lines))
write_transfer(Path("transfer"), table, lines)
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxser.papers.transfer import Line, TransferTable, line_cells, published_cells
from jaxser.reporting import html as html_page
from jaxser.results.cells import csv_text, markdown_table
from jaxser.results.fitted import folded
from jaxser.results.intervals import policy
from jaxser.results.units import Over
from jaxser.runtime.files import write_text
from jaxser.runtime.text import visible

__all__ = ["format_transfer", "write_transfer"]


def format_transfer(
    table: TransferTable,
    lines: Sequence[Line],
    over: Over = "utterance",
    width: int | None = None,
) -> str:
    """What was measured, and below it what the paper printed.

    Args:
      table: of the paper.
      lines: that were measured.
      over: what intervals are over.
      width: of the terminal that tables are to fit.
    """
    text = [f"{table.title}; here on {_corpora(lines)}", *_notes(lines)]
    text += [_shown(line_cells(lines), width), _told(over)]
    if table.published:
        text += ["", f"as published, on {table.corpus}:", _shown(published_cells(table), width)]
        text += [table.remark] * bool(table.remark)
    return "\n".join(text)


def write_transfer(
    out: Path, table: TransferTable, lines: Sequence[Line], over: Over = "utterance"
) -> None:
    """Write ``transfer.{md,html,csv}``; the CSV file has the intervals as numbers."""
    cells = line_cells(lines)
    text = [f"# {table.title}", "", f"Here on {_corpora(lines)}.", ""]
    text += [f"{note}\n" for note in _notes(lines)]
    text += [markdown_table(cells), "", f"{_told(over)}.", ""]
    if table.published:
        text += [f"As published, on {table.corpus}:", "", "```"]
        text += [_shown(published_cells(table)), "```", ""]
        text += [f"{table.remark}\n"] * bool(table.remark)
    write_text(out / "transfer.md", visible("\n".join(text)))
    body = [html_page.paragraph(note, note=True) for note in _notes(lines)]
    body.append(html_page.table(cells, f"Here on {_corpora(lines)}"))
    body.append(html_page.paragraph(f"{_told(over)}."))
    if table.published:
        body.append(html_page.table(published_cells(table), f"As published, on {table.corpus}"))
        body += [html_page.paragraph(table.remark)] * bool(table.remark)
    write_text(out / "transfer.html", html_page.page(table.title, body))
    names = ["threat", "attack", "part", "utterances", "snr_peak", "sparsity", "stoi", "seconds"]
    rows: list[list[object]] = [[*names, "victim", "asr", "asr_low", "asr_high"]]
    for line in lines:
        common = [line.threat, line.attack, line.part, line.utterances]
        for name, rates in line.asr.items():
            measured = [line.snr, line.sparsity, line.stoi, line.seconds]
            rows.append([*common, *measured, name, *dataclasses.astuple(rates)])
    write_text(out / "transfer.csv", csv_text(rows))


def _told(over: Over) -> str:
    return f"ASR: share of all utterances whose prediction changes; {policy(over)}"


def _corpora(lines: Sequence[Line]) -> str:
    return ", ".join(dict.fromkeys(line.corpus for line in lines))


def _notes(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(f"note: {note}" for line in lines for note in line.notes))


def _shown(cells: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Flush left; threat model, attack and part stand in every part of a folded table."""
    return folded(cells, width, left=len(cells[0]), keys=3)

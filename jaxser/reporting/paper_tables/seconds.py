"""What papers say that attacks took, to stand beside what they take here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxser.config import load_yaml
from jaxser.papers.table import Attacked, Table
from jaxser.papers.transfer import TransferTable
from jaxser.reporting.paper_tables.paper import Paper

__all__ = ["seconds_in_papers"]


def seconds_in_papers(papers: Sequence[Paper]) -> dict[str, str]:
    """Attack, by name and by title of its line -> what papers say that it took, and on what."""
    found: dict[str, list[str]] = {}
    for paper in papers:
        for entry in paper.table.attacks:
            told = _seconds(paper.table, entry.title)
            for name in {_registry_name(entry), entry.title} if told else ():
                found.setdefault(name, []).append(told)
    return {attack: "; ".join(dict.fromkeys(texts)) for attack, texts in found.items()}


def _registry_name(entry: Attacked) -> str:
    if entry.attack.endswith((".yaml", ".yml")):
        return str(load_yaml(Path(entry.attack))["name"])
    return entry.attack


def _seconds(table: Any, title: str) -> str:
    if isinstance(table, TransferTable):
        values = [
            value
            for figures in table.published.values()
            if title in figures
            for value in figures[title].seconds
        ]
        unit = "per utterance"
    elif isinstance(table, Table):
        values, unit = list(table.published_seconds.get(title, ())), "for a test set"
    else:
        return ""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = f"{low:,g}" if low == high else f"{low:,g}–{high:,g}"
    on = f"on {table.hardware}" if table.hardware else "hardware not named"
    return f"{span} s {unit}, {on} ({table.title})"

"""Tables as Markdown, and figures as they stand in them."""

import itertools
import math
from collections.abc import Callable, Sequence

__all__ = ["Table", "digits", "either", "markdown", "percent", "reach", "span"]

# Lines of cells, the header first.
Table = list[list[str]]


def markdown(table: Table) -> str:
    """The table without the columns that have no figure at all; cells may hold no line's end."""
    header, *lines = table
    kept = [any(line[place] not in ("", "–") for line in lines) for place in range(len(header))]
    header, *lines = (
        [cell.replace("|", r"\|") for cell in itertools.compress(line, kept)] for line in table
    )
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def digits(value: float) -> str:
    """Three of them and no exponent; "–" for NaN."""
    if math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    shown = f"{value:,.{places}f}"
    return shown.rstrip("0").rstrip(".") if abs(value) < 0.01 else shown


def percent(share: float, places: int = 0) -> str:
    """Such as "69 %"."""
    return f"{100 * share:.{places}f} %"


def either(own: str, peer: str) -> str:
    """A figure of this side, and in brackets that of the peer; "–" where neither has one."""
    return own if own == peer == "–" else f"{own} ({peer})"


def span(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Smallest to largest, such as "0–0.125"."""
    low, high = map(form, (min(values), max(values)))
    return low if low == high else f"{low}–{high}"


def reach(middle: float, ends: Sequence[float]) -> str:
    """A ratio with its smallest and largest, such as "2.81 (2.51–2.82)"."""
    low, high = map(digits, (min(ends), max(ends)))
    return f"{digits(middle)} ({low}–{high})"

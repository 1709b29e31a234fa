"""Tables that fit a terminal: constant columns above, then columns dropped or folded.

    cells = [["attack", "epsilon", "robust acc"], ["pgd", "0.01", "40.0%"], ["pgd", "0.02", "9.0%"]]
    print(fitted(cells, 80, dropped=["epsilon"]))

``fitted`` is for a table of figures of which some matter less, ``folded`` for one whose columns
matter alike. Without a width both are the whole table.
"""

from collections.abc import Collection, Mapping, Sequence

from jaxser.results.cells import aligned
from jaxser.runtime.terminal import shown_width, wrapped

__all__ = ["fitted", "folded"]

_GAP = 2
_NOTHING = "–"
_NO_BREAK = "\N{NO-BREAK SPACE}"


def fitted(
    cells: Sequence[Sequence[str]],
    width: int | None,
    *,
    kept: Collection[str] = (),
    dropped: Sequence[str] = (),
    left: int = 0,
) -> str:
    """A table in at most ``width`` columns, where that can be.

    What all lines have in common stands once above it. Then columns leave until the rest fits; of
    a table of one line they go above, too, as nothing is lost there. What is still too wide is
    folded.

    Args:
      cells: the header first, whose names differ. A dash is a cell that has nothing to say.
      width: of the terminal; None is no limit, and all columns stay.
      kept: names of columns that stay though all their lines say the same.
      dropped: names of columns that may leave, the first one first.
      left: how many columns, from the first on, are flush left and repeated in every part of what
        is folded; the first column always is.
    """
    if width is None:
        return aligned(cells, left)
    header, lines = list(cells[0]), len(cells) - 1
    columns = {name: list(rest) for name, *rest in zip(*cells, strict=True)}
    common = [n for n in header if lines > 1 and n not in kept and _common(columns[n])]
    # Of a line that is there several times something must stay.
    above = set(common if len(common) < len(header) else common[1:])
    gone = []
    for name in dropped:
        stay = {n: column for n, column in columns.items() if n not in above and n not in gone}
        if _width(stay) <= width:
            break
        if name in stay and lines == 1:
            above.add(name)
        elif name in stay:
            gone.append(name)
    rest = [name for name in header if name not in above and name not in gone]
    text = []
    if above:
        said = [f"{name} {_common(columns[name])}" for name in header if name in above]
        text.append(_items(f"in all {lines} lines:" if lines > 1 else "", said, width))
    own = [rest, *map(list, zip(*(columns[name] for name in rest), strict=True))]
    names = len(set(header[:left]) & set(rest))
    text.append(folded(own, width, left=names, keys=max(names, 1)))
    if gone:
        text.append(_items("left out for want of room (--wide shows all):", gone, width))
    return "\n".join(text)


def folded(
    cells: Sequence[Sequence[str]], width: int | None, *, left: int = 0, keys: int = 1
) -> str:
    """A table whose columns go on below it where they would be wider than ``width``.

    Lines of several parts have numbers where what is repeated does not tell them apart. Where no
    other column has room beside what is repeated, the numbers alone are repeated.

    Args:
      cells: the header first.
      width: of the terminal; None folds nothing.
      left: how many columns, from the first on, are flush left.
      keys: how many columns, from the first on, are repeated in every part.
    """
    header, *lines = cells
    numbered = [["#", *header], *([str(i), *line] for i, line in enumerate(lines, 1))]
    alike = len({tuple(line[:keys]) for line in lines}) < len(lines)
    tried = [
        (cells, left, _parts(cells, width, keys)),
        (numbered, left and left + 1, _parts(numbered, width, keys + 1)),
        (numbered, left and left + 1, _parts(numbered, width, 1)),
    ]
    # A cell that alone is too wide for the terminal is shown as it is.
    told_apart = tried[1:] if alike and len(tried[0][2]) > 1 else tried
    fitting = [each for each in told_apart if _fit(each[0], each[2], width)]
    shown, left, parts = (fitting or told_apart)[0]
    return "\n\n".join(
        aligned([[row[i] for i in part] for row in shown], sum(i < left for i in part))
        for part in parts
    )


def _parts(cells: Sequence[Sequence[str]], width: int | None, keys: int) -> list[list[int]]:
    """Places of the columns of every part, each of which begins with so many ``keys``."""
    widths = _widths(cells)
    keys = min(keys, len(widths))
    parts: list[list[int]] = [list(range(keys))]
    for place in range(keys, len(widths)):
        row = [*parts[-1], place]
        too_wide = width is not None and _total([widths[i] for i in row]) > width
        if too_wide and len(parts[-1]) > keys:
            parts.append([*range(keys), place])
        else:
            parts[-1].append(place)
    return parts


def _fit(cells: Sequence[Sequence[str]], parts: Sequence[Sequence[int]], width: int | None) -> bool:
    widths = _widths(cells)
    return width is None or all(_total([widths[i] for i in part]) <= width for part in parts)


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    """Of every column the columns of the terminal that it needs."""
    return [max(map(shown_width, column)) for column in zip(*cells, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _common(column: Sequence[str]) -> str:
    """What all lines say that say something; "" where they do not say the same."""
    said = {cell for cell in column if cell != _NOTHING}
    return said.pop() if len(said) == 1 else ""


def _items(head: str, items: Sequence[str], width: int) -> str:
    """Items after a head, in lines that are broken between items alone."""
    whole = [item.replace(" ", _NO_BREAK) for item in items]
    return wrapped(f"{head} {'; '.join(whole)}".strip(), width).replace(_NO_BREAK, " ")


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    return _total([max(map(shown_width, (name, *cells))) for name, cells in columns.items()])

"""Self-contained HTML pages: text, notes, pictures and tables that sort, on any screen."""

import base64
import html
import re
from collections.abc import Mapping, Sequence

from jaxser.reporting.section import Card
from jaxser.reporting.style import SCRIPT, STYLE
from jaxser.results.cells import constant_columns
from jaxser.runtime.text import visible

__all__ = [
    "audio",
    "cards",
    "contents",
    "drawings",
    "facts",
    "heading",
    "page",
    "paragraph",
    "picture",
    "table",
]

_NO_BREAK = "\N{NO-BREAK SPACE}"

# Letters of a cell of words that is broken into lines.
_LONG = 24

# A figure and its interval, as results.cells.interval writes them.
_INTERVAL = re.compile(r"(\S+) (\(.*(?:–| to ).*\))")


def _escaped(text: str) -> str:
    """Text for a page: no tag, and nothing that cannot be seen or turns its neighbours around."""
    return html.escape(visible(text))


def heading(text: str, anchor: str | None = None, part: bool = False) -> str:
    """Of a section, or of a part of one; links of :func:`contents` lead to its anchor."""
    name = "h3" if part else "h2"
    at = "" if anchor is None else f' id="{_escaped(anchor)}"'
    return f"<{name}{at}>{_escaped(text)}</{name}>"


def contents(anchors: Mapping[str, str]) -> str:
    """Links to sections: anchor -> text."""
    links = (
        f'<a href="#{_escaped(anchor)}">{_escaped(text)}</a>' for anchor, text in anchors.items()
    )
    return f"<nav aria-label=Contents>{''.join(links)}</nav>"


def paragraph(text: str, note: bool = False, small: bool = False) -> str:
    """Text, escaped; a note is marked at its side, and what explains a table is small."""
    kind = " class=note" if note else " class=small" if small else ""
    together = text.replace(" %", _NO_BREAK + "%")  # a number stays beside its unit
    return f"<p{kind}>{_escaped(together)}</p>"


def cards(shown: Sequence[Card]) -> str:
    """Answers in large figures, what they are made of, and what speaks against them."""
    return f"<div class=cards>{''.join(map(_card, shown))}</div>"


def _card(shown: Card) -> str:
    figures = "".join(
        f"<div><dt>{_escaped(name)}</dt><dd>{_figure(value)}</dd></div>"
        for name, value in shown.figures.items()
    )
    doubts = "".join(f"<p class=doubt>{_escaped(doubt)}</p>" for doubt in shown.doubts)
    return (
        f"<section class=card><h2>{_escaped(shown.title)}</h2><dl class=answer>{figures}</dl>"
        f"{facts(shown.facts)}{doubts}</section>"
    )


def _figure(text: str) -> str:
    """A cell, escaped; an interval in smaller letters."""
    found = _INTERVAL.fullmatch(text)
    if found is None:
        return _escaped(text)
    return f"{_escaped(found[1])} <small>{_escaped(found[2])}</small>"


def facts(values: Mapping[str, str]) -> str:
    """Names and what they are, escaped, one below the other."""
    lines = (
        f"<dt>{_escaped(name)}</dt><dd>{_escaped(value)}</dd>" for name, value in values.items()
    )
    return f"<dl class=facts>{''.join(lines)}</dl>"


def drawings(svgs: Sequence[str]) -> str:
    """Figures beside each other, or below each other on a narrow screen.

    Args:
      svgs: of :func:`jaxser.reporting.figures.canvas.figure_svg`.
    """
    return f"<div class=pictures>{''.join(svgs)}</div>"


def picture(png: bytes, description: str) -> str:
    """A PNG within the page, with what it shows in words."""
    data, shown = base64.b64encode(png).decode(), _escaped(description)
    return f'<p><img src="data:image/png;base64,{data}" alt="{shown}"></p>'


def audio(wav: bytes, caption: str, subject: str) -> str:
    """A player of a WAV within the page; what it plays, and of what."""
    data, shown = base64.b64encode(wav).decode(), _escaped(caption)
    named = _escaped(f"{caption}, {subject}")
    return (
        f"<figure><figcaption>{shown}</figcaption>"
        f'<audio controls preload=none aria-label="{named}" src="data:audio/wav;base64,{data}">'
        "</audio></figure>"
    )


def table(cells: Sequence[Sequence[str]], caption: str, hidden: bool = False) -> str:
    """Cells, escaped, the header first; what all lines say alike stands once above them.

    Args:
      cells: plain text.
      caption: what the table is.
      hidden: whether the caption is for those alone who listen to the page.
    """
    same, cells = constant_columns(cells)
    unknown = [name for name, value in same.items() if value == "–"]
    told = [f"{name} {value}" for name, value in same.items() if value != "–"]
    told += [f"not measured: {', '.join(unknown)}"] if unknown else []
    above = f"<p class=same>{_escaped('; '.join(told))}</p>" if told else ""
    kinds = [_is_text([row[i] for row in cells[1:]]) for i in range(len(cells[0]))]

    def row(values: Sequence[str], kind: str) -> str:
        made = []
        for value, text in zip(values, kinds, strict=True):
            inner = f"<button>{_escaped(value)}</button>" if kind == "th" else _figure(value)
            long = " long" * (kind == "td" and len(value) > _LONG)
            attributes = f' class="text{long}"' if text else ""
            if kind == "th":
                attributes += f' scope=col data-name="{_escaped(value)}"'
            made.append(f"<{kind}{attributes}>{inner}</{kind}>")
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(row(values, "td") for values in cells[1:])
    shown, silent = _escaped(caption), " class=hidden" if hidden else ""
    # Reached by the keyboard, as what scrolls has to be.
    return (
        f'{above}<div class=wide tabindex=0 role=region aria-label="{shown}"><table>'
        f"<caption{silent}>{shown}</caption><thead>{row(cells[0], 'th')}</thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def page(title: str, body: Sequence[str]) -> str:
    """A whole document.

    Args:
      title: plain text.
      body: HTML, as the functions above make it.
    """
    shown = _escaped(title)
    content = "\n".join(body)
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport "
        f'content="width=device-width, initial-scale=1"><title>{shown}</title>\n'
        f"<style>{STYLE}</style></head>\n<body><h1>{shown}</h1>\n{content}\n"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _is_text(values: Sequence[str]) -> bool:
    """Whether a column is of words: some cell says something, and none begins like a number."""
    said = [value for value in values if value not in ("", "–")]
    return bool(said) and not any(value[:1].isdigit() or value[:1] in "-+." for value in said)

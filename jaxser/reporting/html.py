"""Self-contained HTML pages: text, notes, pictures and tables that sort, on any screen."""

import base64
import html
from collections.abc import Mapping, Sequence

from jaxser.runtime.text import visible

__all__ = ["audio", "contents", "facts", "heading", "page", "paragraph", "picture", "table"]

_STYLE = """
:root { color-scheme: light dark; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 1rem 0; }
.wide { overflow: auto; margin: 1rem 0; } .wide.long { max-height: 85vh; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
.hidden { position: absolute; clip-path: inset(50%); }
caption { text-align: left; padding: .5rem 0; font-weight: 600; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { background: light-dark(#eee, #333); font-weight: 600; position: sticky; top: 0; }
th.text, td.text { text-align: left; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; }
.facts dt { font-weight: 600; } .facts dd { margin: 0; overflow-wrap: anywhere; }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
.note { border-left: 4px solid #c80; padding-left: .75rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figure { margin: .5rem 1.5rem .5rem 0; display: inline-block; } audio { max-width: 100%; }
/* On a small screen a picture scrolls at a size at which it can be read. */
@media (max-width: 40rem) { .wide img { max-width: none; width: 45rem; } }
"""

# Numbers by their value, what is no number after them, and text by the alphabet.
_SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentNode, body = head.closest("table").tBodies[0];
  const up = head.ariaSort !== "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.ariaSort = up ? "ascending" : "descending";
  const key = row => {
    const text = row.cells[head.cellIndex].textContent, number = parseFloat(text.replace(/,/g, ""));
    return head.className === "text" ? text : isNaN(number) ? Infinity : number;
  };
  const rows = [...body.rows].sort((a, b) => {
    const x = key(a), y = key(b);
    return (up ? 1 : -1) * (typeof x === "string" ? x.localeCompare(y) : x - y);
  });
  body.append(...rows);
};
"""


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


def paragraph(text: str, note: bool = False) -> str:
    """Text, escaped; a note is marked at its side."""
    return f"<p{' class=note' if note else ''}>{_escaped(text)}</p>"


def facts(values: Mapping[str, str]) -> str:
    """Names and what they are, escaped, one below the other."""
    lines = (
        f"<dt>{_escaped(name)}</dt><dd>{_escaped(value)}</dd>" for name, value in values.items()
    )
    return f"<dl class=facts>{''.join(lines)}</dl>"


def picture(png: bytes, description: str) -> str:
    """A PNG within the page, with what it shows in words."""
    data, shown = base64.b64encode(png).decode(), _escaped(description)
    # Reached by the keyboard, as what scrolls has to be.
    return (
        '<div class=wide tabindex=0 role=region aria-label="A picture">'
        f'<img src="data:image/png;base64,{data}" alt="{shown}"></div>'
    )


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
    """Cells, escaped, the header first; sorts by any column, and scrolls where it is too wide.

    Args:
      cells: plain text.
      caption: what the table is.
      hidden: whether the caption is for those alone who listen to the page.
    """
    kinds = [_is_text([row[i] for row in cells[1:]]) for i in range(len(cells[0]))]

    def row(values: Sequence[str], kind: str) -> str:
        made = []
        for value, text in zip(values, kinds, strict=True):
            shown = _escaped(value)
            inner = f"<button>{shown}</button>" if kind == "th" else shown
            attributes = (" class=text" if text else "") + (" scope=col" if kind == "th" else "")
            made.append(f"<{kind}{attributes}>{inner}</{kind}>")
        return f"<tr>{''.join(made)}</tr>"

    body = "\n".join(row(values, "td") for values in cells[1:])
    shown, silent = _escaped(caption), " class=hidden" if hidden else ""
    # Reached by the keyboard, as what scrolls has to be.
    return (
        f'<div class="wide long" tabindex=0 role=region aria-label="{shown}"><table>'
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
        f"<style>{_STYLE}</style></head>\n<body><h1>{shown}</h1>\n{content}\n"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def _is_text(values: Sequence[str]) -> bool:
    """Whether a column is of words: some cell says something, and none begins like a number."""
    said = [value for value in values if value not in ("", "–")]
    return bool(said) and not any(value[:1].isdigit() or value[:1] in "-+." for value in said)

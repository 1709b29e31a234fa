"""Self-contained HTML pages: text, notes and tables, readable from a phone to a wide screen."""

import html
from collections.abc import Sequence

__all__ = ["page", "paragraph", "table"]

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --quiet: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
caption { text-align: left; padding: .5rem 0; font-weight: 600; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { background: var(--quiet); }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
.note { border-left: 4px solid #c80; padding-left: .75rem; }
"""


def paragraph(text: str, note: bool = False) -> str:
    """Text, escaped; a note is marked at its side."""
    return f"<p{' class=note' if note else ''}>{html.escape(text)}</p>"


def table(cells: Sequence[Sequence[str]], caption: str) -> str:
    """Cells, escaped, the header first; wide tables scroll in their own frame."""

    def row(values: Sequence[str], kind: str) -> str:
        scope = " scope=col" if kind == "th" else ""
        made = (f"<{kind}{scope}>{html.escape(value)}</{kind}>" for value in values)
        return f"<tr>{''.join(made)}</tr>"

    body = "\n".join(row(values, "td") for values in cells[1:])
    # Reached by the keyboard, as what scrolls has to be.
    return (
        f'<div class=wide tabindex=0 role=region aria-label="{html.escape(caption)}"><table>'
        f"<caption>{html.escape(caption)}</caption><thead>{row(cells[0], 'th')}</thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def page(title: str, body: Sequence[str]) -> str:
    """A whole document.

    Args:
      title: plain text.
      body: HTML, as the functions above make it.
    """
    shown = html.escape(title)
    content = "\n".join(body)
    return (
        f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport "
        f'content="width=device-width, initial-scale=1"><title>{shown}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body><h1>{shown}</h1>\n{content}\n</body></html>\n"
    )

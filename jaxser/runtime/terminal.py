"""How wide the terminal is, and text that is broken between words to fit it.

width = terminal_width()                    # 80 where there is no terminal
print(wrapped("a long sentence ...", width))
shown_width("愤怒")                          # 4: signs of Chinese are two columns wide
"""

import shutil
import textwrap
import unicodedata

__all__ = ["shown_width", "terminal_width", "wrapped"]


def terminal_width() -> int:
    """Columns of the terminal, or what ``$COLUMNS`` says; 80 where the output goes to a file."""
    return shutil.get_terminal_size().columns


def shown_width(text: str) -> int:
    """Columns that a terminal needs for one line of text."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):  # on the letter before, or unseen
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrapped(text: str, width: int | None) -> str:
    """Text whose longer lines are broken between words; what follows of them is indented.

    A word that is longer than ``width``, such as a path, stays whole, and so do lines that fit.

    Args:
      text: one or several lines.
      width: in columns; None breaks nothing.
    """
    if width is None:
        return text
    return "\n".join(
        line
        if len(line) <= width
        else textwrap.fill(
            line,
            width,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.splitlines()
    )

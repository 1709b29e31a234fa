"""Text that came from files and libraries, made fit for messages, tables and pages.

counted(1, "utterance")          # "1 utterance", and "1,000 utterances" of more
cut("9" * 5000)                  # its first and last characters, 80 in all
listed(["a is missing", ...])    # of a long list the first, "and 31 more"
one_line(error)                  # of a library whose messages run over several lines
visible("a\\u202eb")              # 'a[U+202E]b': what cannot be seen is named
"""

import codecs
import io
import re
import reprlib
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

__all__ = [
    "accept_all_text",
    "capitalised",
    "code_point",
    "counted",
    "cut",
    "file_stem",
    "listed",
    "one_line",
    "shown_value",
    "visible",
]

# What terminals and code pages without it are given instead of a sign that tables use.
_PLAIN = {
    "ε": "eps",
    "–": "-",
    "−": "-",
    "—": "-",
    "×": "x",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "±": "+-",
    "∞": "inf",
    "…": "...",
    "δ": "delta",
    "\N{NO-BREAK SPACE}": " ",
}
_HANDLER = "jaxser.plain"


def capitalised(sentence: str) -> str:
    """``sentence`` with a large first letter; all others stay."""
    return sentence[:1].upper() + sentence[1:]


def counted(count: int, noun: str) -> str:
    """How many there are of what a noun names: its plural, with an s, where it is not one."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def cut(text: str, longest: int = 80) -> str:
    """``text`` without its middle where it is longer than ``longest`` characters."""
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def one_line(error: object, longest: int = 200) -> str:
    """A message of a library in one line of so many characters at most; its class without one."""
    text = " ".join(visible(str(error)).split())
    return cut(text or type(error).__name__, longest)


def listed(parts: Sequence[str], separator: str = ", ", most: int = 12) -> str:
    """``parts`` in one line; of more than ``most`` the first, and how many there are besides."""
    told = [cut(part, 320) for part in parts[:most]]
    if len(parts) > most:
        told.append(f"and {len(parts) - most:,} more")
    return separator.join(told)


def shown_value(value: Any, longest: int = 80) -> str:
    """A value as Python writes it, cut: what it holds is not written out to be thrown away."""
    return cut(_SHORT.repr(value), longest)


class _Short(reprlib.Repr):
    """Text is cut by :func:`cut`, and a number that is too long for Python to write is one still.

    A few entries of a list may each hold a few of their own, and so on: what is nested is left out
    below the third level, so that aliases of YAML cannot make much of little.
    """

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write more digits than a limit of its own.
        return (
            repr(x) if x.bit_length() < 4 * self.maxlong else f"an integer of {x.bit_length()} bits"
        )


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 80, 80, 80


def code_point(character: str) -> str:
    """How a character is named where it cannot be shown."""
    return f"U+{ord(character):04X}"


def file_stem(title: str) -> str:
    """A title as a part of a file's name: small letters, digits and ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")


def visible(text: str) -> str:
    """``text`` with the names of what cannot be seen, or changes how its neighbours are read.

    Control characters but line ends and tabs, marks of writing direction and other formats, and
    halves of surrogate pairs, which no file can hold as UTF-8.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"[{code_point(each)}]" if _is_hidden(each) else each for each in text)


def _is_hidden(character: str) -> bool:
    # Cf: formats. Two of them join letters of Persian and of Indian scripts, which need them.
    return (
        unicodedata.category(character) in ("Cc", "Cf", "Cs")
        and character not in "\n\t\u200c\u200d"
    )


def accept_all_text() -> None:
    """Make stdout and stderr write any text, whatever their encoding: they never raise for it."""
    for stream in (sys.stdout, sys.stderr):
        # A program that has put something else in their place knows what that can write.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """A codec's handler: signs of tables in ASCII, all else as Python escapes it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    refused = error.object[error.start : error.end]
    told = [
        _PLAIN.get(each) or each.encode("ascii", "backslashreplace").decode() for each in refused
    ]
    return "".join(told), error.end


codecs.register_error(_HANDLER, _plain)

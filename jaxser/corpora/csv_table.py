"""Any other corpus, by a CSV file: ``file,label[,speaker,gender,split,id]``.

    corpus = jaxser.corpora.load("csv", "mine/table.csv")       # or the folder that holds it
    corpus = jaxser.corpora.assign_split(corpus, "given")

Paths are relative to the CSV file. Class names are sorted. An utterance's id is its path without
the suffix unless the table gives another. Columns of other names are kept as ``further`` of every
utterance, and named once.
"""

import csv
import difflib
import functools
import io
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast, get_args
from unicodedata import normalize

from jaxser.corpora.names_on_disk import NamesOnDisk
from jaxser.corpora.spec import CorpusSpec
from jaxser.corpora.table import UNKNOWN, Gender, Split, Utterance
from jaxser.runtime.errors import InputError
from jaxser.runtime.regular_files import UnreadableFileError, read_regular

__all__ = ["SPEC", "read_rows", "shown"]

_COLUMNS = ("file", "label", "speaker", "gender", "split", "id")
_GENDERS = {"f": "female", "m": "male", "": UNKNOWN}

# Characters of a value that a message shows.
_SHOWN = 80


def read_rows(
    path: Path, columns: tuple[str, ...], required: tuple[str, ...], *, further: bool = False
) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a CSV file, each with where it stands ("table.csv, line 3").

    Args:
      path: UTF-8 text with a header line.
      columns: names that the header may hold.
      required: names that it must hold, and that must not be empty in any row.
      further: whether it may hold columns of other names, but for those that are names of
        ``columns`` mistyped.

    Raises:
      InputError: the file is not such a table; the message names the line.
    """
    try:
        text = read_regular(path).decode("utf-8-sig")
    except UnreadableFileError as error:
        raise InputError(f"{path} cannot be the table: {error.reason}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text, so it cannot be a CSV table.") from error
    # Strict: a quote that is never closed takes the lines after it into its field.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [name.strip() for name in _next_row(path, reader) or ()]
    expected = ",".join(columns)
    # Of a header that lacks a column, what is not known is that column by another name.
    taken = further and set(required) <= set(header)
    for name in header:
        known = name in columns or (taken and name and not _mistyped(name, columns, header))
        if not known or header.count(name) > 1:
            raise InputError(
                f"{path}, line 1: column {shown(name)} is not expected; use {expected}."
            )
    for name in required:
        if name not in header:
            raise InputError(f"{path}, line 1: there is no column {name!r}; use {expected}.")
    while (fields := _next_row(path, reader)) is not None:
        where = f"{path}, line {reader.line_num}"
        if not fields:
            continue
        if len(fields) != len(header):
            raise InputError(f"{where}: the header has {len(header)} fields, this line does not.")
        row = {name: value.strip() for name, value in zip(header, fields, strict=True)}
        for name, value in row.items():
            if name in required and not value:
                raise InputError(f"{where}: {name} is empty.")
            if any(character in value for character in "\0\n\r"):
                raise InputError(
                    f"{where}: {name} {shown(value)} holds a line end or a NUL character; is a "
                    "quote not closed?"
                )
        yield where, row


def _mistyped(name: str, columns: Sequence[str], header: Sequence[str]) -> bool:
    """Whether a column is one of ``columns``, which is not there, but for a slip."""
    absent = [column for column in columns if column not in header]
    return bool(difflib.get_close_matches(name.lower(), absent, n=1, cutoff=0.8))


@functools.cache
def _say_further(table: Path, names: tuple[str, ...]) -> None:
    """Name columns of one's own, but not twice in one process."""
    logging.getLogger("jaxser.corpora").warning(
        "%s has further columns, which are kept and mean nothing here: %s.", table, ", ".join(names)
    )


def _next_row(path: Path, reader: Any) -> list[str] | None:
    try:
        row: list[str] | None = next(reader, None)
    except csv.Error as error:
        reason = str(error)
        if "field limit" in reason:
            reason = f"a field has more than {csv.field_size_limit():,} characters"
        raise InputError(
            f"{path}, line {reader.line_num}: {reason}; is a quote not closed?"
        ) from error
    return row


def shown(value: str) -> str:
    """A value for a message: quoted, and cut where it is long."""
    return repr(value if len(value) <= _SHOWN else f"{value[: _SHOWN - 3]}...")


def _find(root: Path) -> Path:
    if not root.exists():
        raise InputError(f"there is no file or folder {root}; give the CSV file of your corpus.")
    if not root.is_dir():
        return root
    tables = sorted(root.glob("*.csv"))
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables[:5]) or "none"
        more = f" and {len(tables) - 5} more" if len(tables) > 5 else ""
        raise InputError(
            f"{root} must hold exactly one CSV file, but holds {found}{more}; name the one."
        )
    return tables[0]


def _choice(where: str, column: str, value: str, valid: tuple[str, ...]) -> str:
    if value not in valid:
        raise InputError(f"{where}: {column} {shown(value)} is not one of {', '.join(valid)}.")
    return value


def _read(root: Path) -> list[Utterance]:
    table = _find(root)
    on_disk = NamesOnDisk()
    utterances: dict[str, tuple[str, PurePosixPath, Utterance]] = {}
    for where, row in read_rows(table, _COLUMNS, required=("file", "label"), further=True):
        own = tuple((name, value) for name, value in row.items() if name not in _COLUMNS)
        if own and not utterances:
            _say_further(table, tuple(name for name, _ in own))
        file = _file(where, row["file"], table.parent)
        name = row.get("id") or file.with_suffix("").as_posix()
        # A composed and a decomposed spelling are one name.
        key = normalize("NFC", name)
        if key in utterances:
            raise InputError(_there_twice(where, name, file, *utterances[key][:2]))
        gender = row.get("gender", "").lower()
        gender = _choice(where, "gender", _GENDERS.get(gender, gender), get_args(Gender))
        split = row.get("split", "").lower() or None
        if split is not None:
            _choice(where, "split", split, get_args(Split))
        utterances[key] = (
            where,
            file,
            Utterance(
                id=name,
                path=on_disk.spelt(table.parent, file),
                label=row["label"],
                speaker=row.get("speaker") or UNKNOWN,
                gender=cast(Gender, gender),
                split=cast(Split | None, split),
                further=own,
            ),
        )
    if not utterances:
        raise InputError(f"{table} holds a header and no line under it.")
    return [utterance for _, _, utterance in utterances.values()]


def _file(where: str, text: str, folder: Path) -> PurePosixPath:
    if "\\" in text and not os.path.lexists(folder / text):
        # Written on Windows.
        text = text.replace("\\", "/")
    file = PurePosixPath(text)
    if file.name in ("", ".."):
        raise InputError(f"{where}: file {shown(text)} is a folder; give an audio file.")
    return file


def _there_twice(
    where: str, name: str, file: PurePosixPath, there: str, other: PurePosixPath
) -> str:
    line = there.rpartition(", ")[2]
    if normalize("NFC", str(file)) == normalize("NFC", str(other)):
        return f"{where}: the file {shown(str(file))} is also in {line}."
    if file.with_suffix("") == other.with_suffix(""):
        return (
            f"{where}: {shown(file.name)} and {shown(other.name)} in {line} would both have the id "
            f"{shown(name)}; leave one out, or give every line an id of its own in a column id."
        )
    return f"{where}: the id {shown(name)} is also in {line}; every line needs an id of its own."


SPEC = CorpusSpec(
    name="csv",
    title="CSV",
    language="unknown",
    labels=(),
    read=_read,
    layout="a CSV file with the columns file,label[,speaker,gender,split,id]",
    companions=("*",),
    standard_split="given",
    licence="your own",
    obtain="The csv corpus is your own: write a CSV file with the columns "
    "file,label[,speaker,gender,split,id].",
    quirks=("paths are relative to the CSV file; without a speaker column no split can be "
            "speaker-independent",),
)  # fmt: skip

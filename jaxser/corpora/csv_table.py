"""Any other corpus, by a CSV file: ``file,label[,speaker,gender,split]``.

    corpus = jaxser.corpora.load("csv", "mine/table.csv")       # or the folder that holds it
    corpus = jaxser.corpora.assign_split(corpus, "given")

Paths are relative to the CSV file. Class names are sorted.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import cast, get_args

from jaxser.corpora.spec import CorpusSpec
from jaxser.corpora.table import Gender, Split, Utterance
from jaxser.runtime.errors import InputError

__all__ = ["SPEC", "read_rows"]

_COLUMNS = ("file", "label", "speaker", "gender", "split")
_GENDERS = {"f": "female", "m": "male", "": "unknown"}


def read_rows(
    path: Path, columns: tuple[str, ...], required: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a CSV file, each with where it stands ("table.csv, line 3").

    Args:
      path: UTF-8 text with a header line.
      columns: names that the header may hold.
      required: names that it must hold, and that must not be empty in any row.

    Raises:
      InputError: the file is not such a table; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text, so it cannot be a CSV table.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="")
    header = reader.fieldnames or ()
    expected = ",".join(columns)
    for name in header:
        if name not in columns or header.count(name) > 1:
            raise InputError(f"{path}, line 1: column {name!r} is not expected; use {expected}.")
    for name in required:
        if name not in header:
            raise InputError(f"{path}, line 1: there is no column {name!r}; use {expected}.")
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row.values() or "" in row:
            raise InputError(f"{where}: the header has {len(header)} fields, this line does not.")
        row = {name: value.strip() for name, value in row.items()}
        for name in required:
            if not row[name]:
                raise InputError(f"{where}: {name} is empty.")
        yield where, row


def _find(root: Path) -> Path:
    if root.is_file():
        return root
    if not root.is_dir():
        raise InputError(f"there is no file or folder {root}; give the CSV file of your corpus.")
    tables = sorted(root.glob("*.csv"))
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables) or "none"
        raise InputError(f"{root} must hold exactly one CSV file, but holds {found}; name the one.")
    return tables[0]


def _choice(where: str, column: str, value: str, valid: tuple[str, ...]) -> str:
    if value not in valid:
        raise InputError(f"{where}: {column} {value!r} is not one of {', '.join(valid)}.")
    return value


def _read(root: Path) -> list[Utterance]:
    table = _find(root)
    utterances: dict[str, tuple[str, Utterance]] = {}
    for where, row in read_rows(table, _COLUMNS, required=("file", "label")):
        file = PurePosixPath(row["file"])
        name = file.with_suffix("").as_posix()
        if name in utterances:
            raise InputError(f"{where}: {name} is also in {utterances[name][0].split(', ')[-1]}.")
        gender = row.get("gender", "").lower()
        gender = _choice(where, "gender", _GENDERS.get(gender, gender), get_args(Gender))
        split = row.get("split", "").lower() or None
        if split is not None:
            _choice(where, "split", split, get_args(Split))
        utterances[name] = (
            where,
            Utterance(
                id=name,
                path=table.parent / file,
                label=row["label"],
                speaker=row.get("speaker") or "unknown",
                gender=cast(Gender, gender),
                split=cast(Split | None, split),
            ),
        )
    if not utterances:
        raise InputError(f"{table} holds a header and no line under it.")
    return [utterance for _, utterance in utterances.values()]


SPEC = CorpusSpec(
    name="csv",
    title="CSV",
    language="unknown",
    labels=(),
    read=_read,
    layout="a CSV file with the columns file,label[,speaker,gender,split]",
    companions=("*",),
    standard_split="given",
    licence="your own",
    obtain="The csv corpus is your own: write a CSV file with the columns "
    "file,label[,speaker,gender,split].",
    quirks=("paths are relative to the CSV file; without a speaker column no split can be "
            "speaker-independent",),
)  # fmt: skip

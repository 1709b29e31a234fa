"""Rows from folders, and what made them.

table = read_rows("runs/demo/attacks/pgd-1a2b3c4d")    # pyarrow; pandas reads the files too
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jaxser.results.schema import BEFORE, LATER, SCHEMA, SOURCE_KEY, row_digest
from jaxser.runtime.errors import InputError
from jaxser.runtime.text import one_line, shown_value

__all__ = [
    "check_digest",
    "has_rows",
    "read_row_file",
    "read_rows",
    "read_sources",
    "row_files",
    "row_paths",
]

# What every row has, whatever the victim, the attack and the corpus.
_ALWAYS = (
    *("victim", "victim_fingerprint", "threat", "corpus", "split", "domain"),
    *("utterance", "source", "label"),
    *("label_source", "attacked_label", "targeted", "attack", "parameters", "synthetic"),
    *("epsilon", "epsilon_unit", "epsilon_norm", "output", "seed", "success", "device"),
)

_DIGEST = re.compile(r"-([0-9a-f]{16})$")

# What the parts of a source tell at least.
_TOLD: dict[str, dict[str, Any]] = {
    "config": {},
    "corpus": {"name": str, "title": str, "fingerprint": str, "split": list},
    "environment": {"jaxser": str, "git_revision": str | None, "python": str, "packages": dict},
}


def read_rows(
    folder: Path | str, columns: Sequence[str] | None = None, *, coded: bool = False
) -> pa.Table:
    """All rows in a folder and those inside it, in the order in which they were written.

    Rows of older versions have no ``source`` and get the utterance as such, and NaN as
    ``success_share``.

    Args:
      folder: of one attack, a victim's or a sweep's.
      columns: of the SCHEMA; all by default.
      coded: text as Arrow dictionaries, a code per row and every text once, which takes a
        fraction of the memory.

    Raises:
      InputError: no row files, or one that is damaged or of another layout.
      OSError: a file that cannot be read.

    Examples:
      >>> import jaxser
      >>> table = jaxser.results.read_rows("attacked", ["attack", "epsilon", "success"])
      >>> table.column_names, len(table)
      (['attack', 'epsilon', 'success'], 7)
    """
    tables = list(row_files(folder, columns, coded=coded))
    if not tables:
        raise _no_rows(folder)
    # Every file has a dictionary of its own; a code must mean the same in all of them.
    return pa.concat_tables(tables).unify_dictionaries()


def row_files(
    folder: Path | str, columns: Sequence[str] | None = None, *, coded: bool = False
) -> Iterator[pa.Table]:
    """The rows of :func:`read_rows` file by file, in little memory; nothing where there are none.

    Raises:
      InputError: a file that is damaged or of another layout.
      OSError: a file that cannot be read.
    """
    for path in row_paths(folder):
        yield read_row_file(path, columns, coded=coded)


def read_row_file(
    path: Path, columns: Sequence[str] | None = None, *, coded: bool = False
) -> pa.Table:
    """The rows of one file of :func:`row_paths`, as of :func:`read_rows`.

    Raises:
      InputError: it is damaged or of another layout.
      OSError: it cannot be read.
    """
    fields = SCHEMA if columns is None else [SCHEMA.field(name) for name in columns]
    texts = [field.name for field in fields if coded and field.type == pa.string()]
    code = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [field.with_type(code) if field.name in texts else field for field in fields]
    )
    # Arrow opens no path that is not UTF-8, and what cannot be read is not damaged.
    content = path.read_bytes()
    with _of_rows(path):
        check_digest(path, content)
        # The layout is checked before any column is read, from a footer that is read once.
        metadata = pq.read_metadata(pa.BufferReader(content))
        there = metadata.schema.to_arrow_schema().names
        _check_layout(path, there)
        # Parquet keeps text as dictionaries: read as such, no text of a row is ever made.
        file = pq.ParquetFile(
            pa.BufferReader(content),
            metadata=metadata,
            read_dictionary=list(filter(None, _columns(texts, there))),
        )
        table = _read(file, schema, there)
        # Text that is not UTF-8 is found here, and not where a report shows it.
        table.validate(full=True)
    _check_values(path, table)
    return table


def _read(file: pq.ParquetFile, schema: pa.Schema, there: Sequence[str]) -> pa.Table:
    """Columns of a file in the order of ``schema``, with those that it is too old to have."""
    names = _columns(schema.names, there)
    table = file.read(list(dict.fromkeys(name for name in names if name)))
    count = file.metadata.num_rows

    def unknown(field: pa.Field) -> pa.Array:
        if field.name in BEFORE:
            code = pa.array(np.zeros(count, np.int32))
            known = pa.DictionaryArray.from_arrays(code, pa.array([BEFORE[field.name]]))
            return known if pa.types.is_dictionary(field.type) else known.cast(field.type)
        if field.type == pa.float64():
            return pa.array(np.full(count, np.nan))
        return pa.nulls(count, field.type)

    columns = [
        table[name] if name else unknown(field) for name, field in zip(names, schema, strict=True)
    ]
    return pa.table(columns, names=schema.names).cast(schema)


def _columns(names: Sequence[str], there: Sequence[str]) -> list[str | None]:
    """Which column of a file stands for each; None for what it is too old to have."""
    return [name if name in there else LATER[name] for name in names]


def read_sources(folder: Path | str) -> list[dict[str, Any]]:
    """What made the rows of a folder, as :class:`RowWriter` was told, each once.

    Raises:
      InputError: no row files, or one that is damaged.

    Examples:
      >>> import jaxser
      >>> source, = jaxser.results.read_sources("attacked")
      >>> source["corpus"]["title"]
      'Made up'
    """
    found: dict[bytes, dict[str, Any]] = {}
    paths = row_paths(folder)
    if not paths:
        raise _no_rows(folder)
    for path in paths:
        content = path.read_bytes()
        with _of_rows(path):
            check_digest(path, content)
            metadata = pq.read_schema(pa.BufferReader(content)).metadata or {}
        text = metadata.get(SOURCE_KEY)
        if text is not None and text not in found:
            found[text] = _source(path, text)
    return list(found.values())


def has_rows(folder: Path | str) -> bool:
    """Whether there are files of rows in a folder or inside it."""
    return any(Path(folder).rglob("rows-*.parquet"))


def row_paths(folder: Path | str) -> list[Path]:
    """Files of rows in a folder and inside it, in the order in which they were written."""
    # By name first, which begins with the time: folders of one sweep are written at the same time.
    return sorted(Path(folder).rglob("rows-*.parquet"), key=lambda path: (path.name, path))


def _no_rows(folder: Path | str) -> InputError:
    return InputError(f"{folder} holds no rows-*.parquet; run python -m jaxser.attack first.")


@contextmanager
def _of_rows(path: Path) -> Iterator[None]:
    """Damage to a file as one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, one_line(error)) from None


def check_digest(path: Path, content: bytes) -> None:
    """Compare a file with the digest in its name; files of older versions have none.

    Raises:
      ValueError: it is another one.
    """
    written = _DIGEST.search(path.stem)
    if written and row_digest(content) != written[1]:
        raise ValueError("it has changed since it was written")


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is not a file of attack rows ({why}); delete it and run the attack again, which "
        "makes the missing rows."
    )


def _source(path: Path, text: bytes) -> dict[str, Any]:
    """What made the rows of a file, with all that reports tell of it."""
    try:
        source = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"what made it is no JSON: {one_line(error)}") from None
    if not isinstance(source, dict):
        raise _damaged(path, "what made it is told in another way")
    for name, kinds in _TOLD.items():
        part = source.get(name)
        if not isinstance(part, dict) or not all(
            key in part and isinstance(part[key], kind) for key, kind in kinds.items()
        ):
            raise _damaged(path, f"its {name} is not told in full")
    if len(source["corpus"]["split"]) != 3:
        raise _damaged(path, "its split is not told in full")
    return source


def _check_values(path: Path, table: pa.Table) -> None:
    """Refuse a file without rows, which no run writes, rows without what every row has, and
    hyper-parameters that are not JSON."""
    if not len(table):
        raise _damaged(path, "it has no rows")
    for name in _ALWAYS:
        if name in table.column_names and table[name].null_count:
            raise _damaged(path, f"{table[name].null_count} of its rows have no {name}")
    if "parameters" in table.column_names:
        for text in pc.unique(table["parameters"]).to_pylist():
            try:
                whole = isinstance(json.loads(text), dict)
            except (ValueError, RecursionError):
                whole = False
            if not whole:
                raise _damaged(path, f"{shown_value(text)} are no hyper-parameters")


def _check_layout(path: Path, names: Sequence[str]) -> None:
    """Rows of several layouts must not be put together as if they were of one."""
    told = [
        f"{how} {', '.join(sorted(columns))}"
        for how, columns in (
            ("lacks", set(SCHEMA.names) - set(names) - set(LATER)),
            ("also has", set(names) - set(SCHEMA.names)),
        )
        if columns
    ]
    if told:
        raise InputError(
            f"{path} is of another version of jaxser: it {' and '.join(told)}; run the attack "
            "again, or read its folder with the version that wrote it."
        )

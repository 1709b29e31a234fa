"""Rows from folders, and what made them.

table = read_rows("runs/demo/attacks/pgd-1a2b3c4d")    # pyarrow; pandas reads the files too
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jaxser.results.schema import SCHEMA, SOURCE_KEY
from jaxser.runtime.errors import InputError

__all__ = ["read_rows", "read_sources", "row_files"]


def read_rows(
    folder: Path | str, columns: Sequence[str] | None = None, *, coded: bool = False
) -> pa.Table:
    """All rows in a folder and those inside it, in the order in which they were written.

    Args:
      folder: of one attack, a victim's or a sweep's.
      columns: of the SCHEMA; all by default.
      coded: text as Arrow dictionaries, a code per row and every text once, which takes a
        fraction of the memory.

    Raises:
      InputError: no row files, or one that is damaged or of another layout.
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
    """
    fields = SCHEMA if columns is None else [SCHEMA.field(name) for name in columns]
    texts = [field.name for field in fields if coded and field.type == pa.string()]
    code = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [field.with_type(code) if field.name in texts else field for field in fields]
    )
    for path in _paths(folder):
        with _of_rows(path):
            # The layout is checked before any column is read, from a footer that is read once.
            metadata = pq.read_metadata(path)
            _check_layout(path, metadata.schema.to_arrow_schema().names)
            # Parquet keeps text as dictionaries: read as such, no text of a row is ever made. The
            # check allows columns in another order, which select mends.
            file = pq.ParquetFile(path, metadata=metadata, read_dictionary=texts)
            table = file.read(schema.names).select(schema.names).cast(schema)
        yield table


def read_sources(folder: Path | str) -> list[dict[str, Any]]:
    """What made the rows of a folder, as :class:`RowWriter` was told, each once.

    Raises:
      InputError: no row files, or one that is damaged.
    """
    found: dict[bytes, None] = {}
    paths = _paths(folder)
    if not paths:
        raise _no_rows(folder)
    for path in paths:
        with _of_rows(path):
            metadata = pq.read_schema(path).metadata or {}
        if SOURCE_KEY in metadata:
            found[metadata[SOURCE_KEY]] = None
    return [json.loads(text) for text in found]


def _paths(folder: Path | str) -> list[Path]:
    """In the order in which they were written."""
    # By name first, which begins with the time: folders of one sweep are written at the same time.
    return sorted(Path(folder).rglob("rows-*.parquet"), key=lambda path: (path.name, path))


def _no_rows(folder: Path | str) -> InputError:
    return InputError(f"{folder} holds no rows-*.parquet; run python -m jaxser.attack first.")


@contextmanager
def _of_rows(path: Path) -> Iterator[None]:
    """Damage to a file as one sentence."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(
            f"{path} is not a file of attack rows ({error}); delete it and run the attack "
            "again, which makes the missing rows."
        ) from None


def _check_layout(path: Path, names: Sequence[str]) -> None:
    """Rows of several layouts must not be put together as if they were of one."""
    told = [
        f"{how} {', '.join(sorted(columns))}"
        for how, columns in (
            ("lacks", set(SCHEMA.names) - set(names)),
            ("also has", set(names) - set(SCHEMA.names)),
        )
        if columns
    ]
    if told:
        raise InputError(
            f"{path} is of another version of jaxser: it {' and '.join(told)}; run the attack "
            "again, or read its folder with the version that wrote it."
        )

"""Rows into a folder, in Parquet files that are whole or not there.

with RowWriter("runs/demo/attacks/pgd-1a2b3c4d") as writer:
    writer.add(columns)                                # {"utterance": [...], "epsilon": ...}
"""

import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jaxser.results.schema import SCHEMA, SOURCE_KEY, row_digest
from jaxser.runtime.files import atomic_file

__all__ = ["RowWriter"]

# Few rows wait, so that a crash costs little; many enough that a sweep of a million rows leaves
# hundreds of files and not a file per batch.
_FLUSH_ROWS = 2_000
_FLUSH_SECONDS = 30.0


class RowWriter:
    """Appends rows to a folder, one whole Parquet file per flush.

    Args:
      folder: made where it is missing; files that are there stay.
      source: what makes the rows (config, corpus, versions), ready for JSON; every file carries it
        in its metadata.
      schema: of the rows; that of attacks by default.
      kind: what names of the files begin with.

    Examples:
      >>> import jaxser
      >>> rows = jaxser.results.read_rows("attacked")
      >>> source, = jaxser.results.read_sources("attacked")
      >>> with jaxser.results.RowWriter("copied", source) as writer:
      ...     writer.add({name: rows[name] for name in rows.column_names})
      >>> len(jaxser.results.read_rows("copied"))
      7
    """

    def __init__(
        self,
        folder: Path | str,
        source: Mapping[str, Any] | None = None,
        *,
        schema: pa.Schema = SCHEMA,
        kind: str = "rows",
    ) -> None:
        self._folder, self._schema, self._kind = Path(folder), schema, kind
        self._metadata = {} if source is None else {SOURCE_KEY: json.dumps(source)}
        self._waiting: list[pa.Table] = []
        self._flushed_at = time.monotonic()

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Rows that are finished are kept when a run is interrupted; on a full disk they cannot be.
        if not isinstance(error, OSError):
            self.flush()

    def add(self, *parts: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        """Take rows, all columns of the schema; they are written now or with the next ones.

        What is given together comes into one file: all of it is there after a crash, or nothing.
        """
        self._waiting += [pa.table(dict(columns), schema=self._schema) for columns in parts]
        waiting = sum(len(table) for table in self._waiting)
        if waiting >= _FLUSH_ROWS or time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        self._flushed_at = time.monotonic()
        if not self._waiting:
            return
        # A Parquet file can be read only when its footer is there, and cannot be appended to. So
        # every flush is a file of its own, which appears under its name when it is synced: a
        # killed run leaves files that are whole, and a sweep that runs can be read.
        table = pa.concat_tables(self._waiting).replace_schema_metadata(self._metadata)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        # Sorted by time, and never another process' name: many processes write into one folder.
        # The digest tells readers whether the file is what was written.
        name = f"{self._kind}-{time.time_ns():020d}-{row_digest(buffer.getbuffer())}.parquet"
        with atomic_file(self._folder / name) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        self._waiting = []

"""Rows on disk, and the figures that are made from them.

    with RowWriter("runs/demo/attacks/pgd-1a2b3c4d") as writer:
        writer.add(columns)                                # {"utterance": [...], "epsilon": ...}
    table = read_rows("runs/demo/attacks/pgd-1a2b3c4d")    # pyarrow; pandas reads the files too
    print(format_table(summarise(table, by="gender")))

Names are imported on first use, so that the metrics alone do not wait for pyarrow.
"""

from typing import TYPE_CHECKING

from jaxser.runtime.faces import face

if TYPE_CHECKING:
    from jaxser.results.reading import read_rows as read_rows
    from jaxser.results.reading import read_sources as read_sources
    from jaxser.results.schema import SCHEMA as SCHEMA
    from jaxser.results.summary import summarise as summarise
    from jaxser.results.summary_table import format_table as format_table
    from jaxser.results.writing import RowWriter as RowWriter

__all__ = ["SCHEMA", "RowWriter", "format_table", "read_rows", "read_sources", "summarise"]

_MODULES = {
    "RowWriter": "writing",
    "SCHEMA": "schema",
    "format_table": "summary_table",
    "read_rows": "reading",
    "read_sources": "reading",
    "summarise": "summary",
}

__getattr__, __dir__ = face(__name__, _MODULES)

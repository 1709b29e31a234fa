"""The tables that end an attack: all rows, by part, of whole utterances, and what they mean once.

print(attack_tables(read_rows("runs/demo"), labels, by="gender", width=80))
"""

from collections.abc import Sequence

import pyarrow as pa

from jaxser.results.summary import summarise
from jaxser.results.summary_table import legend, summary_table
from jaxser.results.units import Over
from jaxser.results.whole import are_parts, of_whole_utterances

__all__ = ["attack_tables"]


def attack_tables(
    rows: pa.Table,
    labels: Sequence[str],
    *,
    by: str | None = None,
    over: Over = "utterance",
    width: int | None = None,
) -> str:
    """Tables of one attack as text.

    Args:
      rows: with the SCHEMA.
      labels: of the victim, for whole utterances where rows are of their windows or chunks.
      by: a table of this split, too; see :func:`jaxser.results.summary.summarise`.
      over: what intervals are over.
      width: of the terminal that tables are to fit; None for all columns.
    """
    lines = summarise(rows, interval_over=over)
    text = [summary_table(lines, width)]
    if by is not None:
        parts = summarise(rows, by=by, interval_over=over)
        text += [f"\nby {by}:", summary_table(parts, width)]
    if are_parts(rows):
        whole = summarise(of_whole_utterances(rows, labels), interval_over=over)
        text.append("\nwhole utterances, by the mean of the logits of their windows or chunks:")
        text.append(summary_table(whole, width))
    return "\n".join([*text, *legend(lines, over)])

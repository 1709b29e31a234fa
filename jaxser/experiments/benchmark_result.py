"""What a suite of attacks found of a model: rows, the worst case of every ε, a table, a picture.

result = jaxser.benchmark(victim, x, y, suite="standard")
result.worst_case[0.005]                     # Estimate(value, low, high)
result.save("runs/mine")                     # jaxser report runs/mine --out report.html
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from jaxser.results.estimate import Estimate
from jaxser.results.reading import has_rows
from jaxser.results.units import Over
from jaxser.results.worst_case import WorstCase, robustness_table, worst_cases
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import UsageError

__all__ = ["BenchmarkResult"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BenchmarkResult:
    """What a suite of attacks found.

    Attributes:
      suite: with its version, such as "standard-1".
      model: what tables call it.
      tables: rows of each attack, in the row schema (``docs/rows.md``).
      sources: what made each of them, ready for JSON.
      notes: what the clean pass found that makes the figures mean something else.
    """

    suite: str
    model: str
    tables: tuple[pa.Table, ...]
    sources: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def rows(self) -> pa.Table:
        """All rows."""
        return pa.concat_tables(self.tables)

    @functools.cached_property
    def worst_case(self) -> dict[float, Estimate]:
        """By ε: the share of the inputs that is right after every attack, with its interval."""
        return {case.epsilon: case.robust for case in self._worst_cases()}

    @functools.cached_property
    def clean_accuracy(self) -> Estimate:
        """Before any attack."""
        return self._worst_cases()[0].clean

    def _worst_cases(self, over: Over = "utterance") -> list[WorstCase]:
        """Looked for once, as rows may be many."""
        if over not in self._found:
            self._found[over] = worst_cases(self.rows, over)
        return self._found[over]

    @functools.cached_property
    def _found(self) -> dict[Over, list[WorstCase]]:
        return {}

    def summary(self, interval_over: Over = "utterance") -> str:
        """Robust accuracy of every attack and ε, and the worst case, as text.

        Args:
          interval_over: what intervals are over: "utterance" or "speaker".
        """
        count = len(set(self.rows["utterance"].to_pylist()))
        head = f"{self.suite} on {self.model}: {len(self.tables)} attacks, {count} inputs"
        said = [f"note: {note}" for note in self.notes]
        cases = self._worst_cases(interval_over)
        return "\n".join([head, *said, robustness_table(self.rows, interval_over, cases=cases)])

    def plot(self, path: Path | str | None = None) -> Any:
        """Accuracy over ε, a curve per attack and the worst case, as a matplotlib figure.

        Args:
          path: of a PNG file to write it to.
        """
        from jaxser.reporting.figures.canvas import save_figure
        from jaxser.reporting.figures.worst_case import worst_case_figure

        title = f"{self.model}, {self.suite}"
        figure = worst_case_figure(self.rows, self._worst_cases(), title)
        if path is not None:
            save_figure(figure, path)
        return figure

    def save(self, folder: Path | str) -> Path:
        """Write the rows, a folder for each attack, as ``jaxser report`` reads them.

        Args:
          folder: new, or without rows.

        Raises:
          UsageError: it holds rows already.
        """
        folder = Path(folder)
        if has_rows(folder):
            raise UsageError(f"{folder} holds rows already; give another folder.")
        for number, (table, source) in enumerate(zip(self.tables, self.sources, strict=True), 1):
            name = f"{number:02d}-{source['attack']['name']}"
            with RowWriter(folder / name, source) as writer:
                writer.add({column: table[column] for column in table.column_names})
        return folder

    def __repr__(self) -> str:
        (first, *_, last) = [*self.worst_case.items(), *self.worst_case.items()]
        return (
            f"BenchmarkResult({self.suite} on {self.model}: {len(self.tables)} attacks, accuracy "
            f"{self.clean_accuracy.value:.1%}, worst case {first[1].value:.1%} at epsilon "
            f"{first[0]:g} to {last[1].value:.1%} at {last[0]:g})"
        )

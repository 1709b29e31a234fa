"""Tables of papers whose victims are trained where they are missing, as text.

print(make_table(Path("configs/tables/benchmark_table1.yaml"), config))
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jaxser.config import load_yaml
from jaxser.config.evaluate import EvaluateConfig
from jaxser.experiments.attacked_tables import make_attacked_table
from jaxser.experiments.model_tables import make_model_table
from jaxser.experiments.paper_training import cells, trained_all
from jaxser.experiments.shown_table import shown_table
from jaxser.papers.trained import load_trained_table
from jaxser.reporting.paper_tables.trained import trained_table
from jaxser.results.intervals import policy

__all__ = ["make_table", "make_tables"]


def make_tables(
    paths: Sequence[Path], config: EvaluateConfig, say: Callable[[str], object]
) -> Iterator[str]:
    """Each table as text, as soon as it is made; see :func:`make_table`,
    :func:`jaxser.experiments.model_tables.make_model_table` and
    :func:`jaxser.experiments.attacked_tables.make_attacked_table`."""
    made_by = {"trained": make_table, "models": make_model_table}
    for path in paths:
        layout = str(load_yaml(path).get("layout"))
        yield made_by.get(layout, make_attacked_table)(path, config, say)


def make_table(path: Path, config: EvaluateConfig, say: Callable[[str], object]) -> str:
    """Train what is missing of a table, and show it beside the paper's; with --out in files, too.

    Args:
      path: of the table file.
      config: of the command.
      say: is given a line before each run.

    Raises:
      UsageError, InputError: see the message.
      Stopped: a signal stopped the training; the same command goes on.
    """
    table = load_trained_table(path)
    planned = [
        (
            (cell.kind, cell.victim, cell.corpus),
            f"{cell.victim}, {cell.kind}, {cell.corpus}, seed {cell.seed}",
            cell.config,
        )
        for cell in cells(table, config)
    ]
    made, notes = trained_all(planned, say)
    lines = trained_table(table, made, config.interval_over)
    told = [f"note: {note}" for note in notes]
    told.append(
        f"{policy(config.interval_over)}; average: training and test part together, as the paper "
        "has it, which says how well the training part is known by heart; of files: by the mean of "
        "the logits of their windows"
    )
    return shown_table(path.stem, table.title, lines, told, config.out)

"""Evaluated victims as text, and as a folder with pictures.

print(format_evaluation(evaluation))
write_report(Path("report"), evaluations)        # report.md, settings.csv, *.png
"""

from collections.abc import Sequence
from pathlib import Path

from jaxser.reporting.evaluation.differences import domains, genders, languages, leak
from jaxser.reporting.evaluation.outcomes import GROUPS, Evaluation
from jaxser.reporting.evaluation.pictures import pictures
from jaxser.reporting.evaluation.tables import at_snr, settings_csv, strongest, victims
from jaxser.reporting.evaluation.tallies import tallies
from jaxser.reporting.grouping import grouped
from jaxser.results.cells import Cells, markdown_table
from jaxser.results.fitted import folded
from jaxser.results.intervals import policy
from jaxser.runtime.files import write_text
from jaxser.runtime.text import visible

__all__ = ["format_evaluation", "write_report"]


def format_evaluation(evaluation: Evaluation, width: int | None = None) -> str:
    """Aligned text: the strongest setting of each attack, with the paper's figures.

    Args:
      evaluation: of one victim.
      width: of the terminal that tables are to fit.
    """

    def shown(tables: Sequence[Cells]) -> str:
        return "\n\n".join(folded(cells, width, left=2) for cells in tables)

    parts = [f"{evaluation.table.title}: {evaluation.victim}, {evaluation.corpus.title}"]
    parts += [f"note: {note}" for note in _notes(evaluation)]
    parts.append(shown(strongest(evaluation)))
    parts.append(policy(evaluation.interval_over))
    if evaluation.table.snr:
        parts.append("\naccuracy at a power SNR of so many dB or more, best setting per utterance:")
        parts.append(shown(at_snr(evaluation)))
    return "\n".join(parts)


def write_report(folder: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write ``report.md``, ``settings.csv`` with every setting, and pictures into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "settings.csv", settings_csv(evaluations))
    parts = ["# Evaluation", "## Victims", markdown_table(victims(evaluations))]
    for table, group in grouped(evaluations, lambda each: each.table.title).items():
        parts.append(f"## {table}")
        for evaluation in group:
            parts.append(f"### {evaluation.title}")
            parts += [f"- {note}" for note in _notes(evaluation)]
            parts += map(markdown_table, strongest(evaluation))
            parts.append(f"{policy(evaluation.interval_over)}.")
            if evaluation.table.snr:
                parts.append(
                    "Accuracy at a power SNR of so many dB or more, with the best setting for each "
                    "utterance:"
                )
                parts += map(markdown_table, at_snr(evaluation))
        parts += pictures(folder, group)
        parts += genders(group)
        parts += languages(group)
        parts += tallies(group)
    parts += leak(evaluations)
    parts += domains(evaluations)
    write_text(folder / "report.md", visible("\n\n".join(parts)) + "\n")


def _notes(evaluation: Evaluation) -> list[str]:
    defence = evaluation.speech.victim.training.defence
    notes = [*([f"the victim was {defence}"] if defence else []), *evaluation.speech.notes]
    if not set(evaluation.clean.genders) & set(GROUPS):
        notes.append(
            f"{evaluation.corpus.name} does not say its speakers' gender, so there are no figures "
            "by gender"
        )
    return notes

"""Tables of attacks on a paper's own victims, which are trained where they are missing.

print(make_attacked_table(Path("configs/tables/benchmark_table2a.yaml"), config, say=print))
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxser.config import AttackCommandConfig, AttackedCorpusConfig, as_params
from jaxser.config.evaluate import EvaluateConfig
from jaxser.corpora.table import Split
from jaxser.experiments.attack import attack_missing_rows
from jaxser.experiments.hardened import (
    AUTO_ATTACK,
    HardenedRun,
    attacks_of,
    check_defended,
    runs_of,
)
from jaxser.experiments.paper_training import (
    check_runs,
    chosen,
    config_of,
    corpora_of,
    limit_of,
    trained,
)
from jaxser.experiments.preparation import prepare_run
from jaxser.experiments.speech import load_speech, victim_of
from jaxser.papers.defence import DefenceTable, load_defence_table
from jaxser.reporting.figures.canvas import save_figure
from jaxser.reporting.loading import load
from jaxser.reporting.paper_tables.defence import defence_sections
from jaxser.reporting.paper_tables.defence_matrix import matrix_sections
from jaxser.reporting.paper_tables.paper import Paper
from jaxser.reporting.section import Section
from jaxser.reporting.warnings import one_answers
from jaxser.results.cells import csv_text, markdown_table
from jaxser.results.fitted import folded
from jaxser.results.intervals import policy
from jaxser.runtime.errors import UsageError
from jaxser.runtime.files import write_text
from jaxser.runtime.terminal import terminal_width

__all__ = ["make_attacked_table"]

# The paper attacks both, and prints them together as "average".
_PARTS: tuple[Split, ...] = ("test", "train")


def make_attacked_table(path: Path, config: EvaluateConfig, say: Callable[[str], object]) -> str:
    """Train and attack what is missing of a table, and show it beside the paper's.

    Args:
      path: of the table file.
      config: of the command; its limit is of the rows of each part that are attacked.
      say: is given a line before each run.

    Raises:
      UsageError, InputError: see the message.
      Stopped: a signal stopped it; the same command goes on.
    """
    table = load_defence_table(path)
    if not table.victims:
        raise UsageError(
            f"{path} names no victims to train; make rows with python -m jaxser.attack, and show "
            "them with python -m jaxser.report --table."
        )
    table = _in_domain(table, config)
    # Before anything is trained for them.
    titles = chosen("--attacks", config.attacks, [entry.title for entry in table.lines])
    limit_of(config.limit)
    check_defended(table, config)
    victims = chosen("--lines", config.lines, list(table.victims))
    table = table.only(victims, titles)
    planned = [
        (corpus, root, victim, run)
        for corpus, root in corpora_of(table, config.corpus).items()
        for victim in victims
        for run in runs_of(table, config, config_of(table.victims[victim], corpus), root, titles)
    ]
    check_runs([run.config for *_, run in planned])
    folders: list[Path] = []
    against: dict[str, tuple[str, ...]] = {}
    for corpus, root, victim, run in planned:
        out, line = run.config.out, run.against
        beside = f", against {line}" if line else ""
        say(f"{out}: {victim}, {table.kind}, {corpus}{beside}")
        trained(run.config)
        if line:
            against[line] = (*against.get(line, ()), str(out))
        folders += _attacked(table, config, run, root, say)
    rows = load(folders, config.interval_over)
    paper = Paper(path.stem, table, against)
    sections = list(defence_sections(rows, paper, table))
    if config.defended == "all":
        sections += matrix_sections(rows, paper, table, attacks_of(table, config, titles))
    text = [f"note: {note}" for note in [*rows.notes, *one_answers(rows.settings)]]
    text.append(policy(config.interval_over))
    if config.out is not None:
        _write(config.out, path.stem, table, sections, text)
    width = terminal_width()
    shown = [f"{each.title}\n{folded(each.cells, width, left=2)}\n{each.text}" for each in sections]
    return "\n\n".join([*shown, "\n".join(text)])


def _write(
    out: Path, name: str, table: DefenceTable, sections: Sequence[Section], text: Sequence[str]
) -> None:
    """One page of all tables, each as CSV, and the pictures."""
    out.mkdir(parents=True, exist_ok=True)
    parts = [f"# {table.title}", *text]
    for section in sections:
        parts += [f"## {section.title}", markdown_table(section.cells), section.text]
        write_text(out / f"{section.name}.csv", csv_text(section.cells))
        for picture in section.pictures:
            save_figure(picture.figure, out / f"{picture.name}.png")
            parts.append(f"![{picture.words}]({picture.name}.png)")
    write_text(out / f"{name}.md", "\n\n".join(parts) + "\n")


def _in_domain(table: DefenceTable, config: EvaluateConfig) -> DefenceTable:
    """The table with the domain and the budgets that the command asks for.

    Raises:
      UsageError: another domain without budgets, since ε is in its units; or none that are any.
    """
    if config.domain in (None, table.domain) and config.epsilon is None:
        return table
    if config.epsilon is None:
        raise UsageError(
            f"the budgets of {table.title} are of the domain {table.domain}; give --epsilon in the "
            f"units of the {config.domain}."
        )
    if len(set(config.epsilon)) < len(config.epsilon):
        raise UsageError("--epsilon has the same budget twice; give each once.")
    if not all(0 < epsilon < math.inf for epsilon in config.epsilon):
        given = " ".join(f"{epsilon:g}" for epsilon in config.epsilon)
        raise UsageError(f"--epsilon must be positive and finite, not {given}.")
    entries = [dataclasses.replace(e, epsilon=tuple(config.epsilon)) for e in table.attacks]
    return dataclasses.replace(table, domain=config.domain or table.domain, attacks=entries)


def _attacked(
    table: DefenceTable,
    config: EvaluateConfig,
    run: HardenedRun,
    root: Path,
    say: Callable[[str], object],
) -> list[Path]:
    """Folders with the rows of all attacks on both parts."""
    of_victim = AttackCommandConfig(
        victim=run.config.out,
        domain=table.domain,
        y=table.y,
        seed=config.seed,
        limit=limit_of(config.limit),
        batch_size=config.batch_size,
        corpus=AttackedCorpusConfig(root=root),
    )
    victim = victim_of(of_victim)
    folders = []
    for part in _PARTS:
        common = dataclasses.replace(of_victim, split=part)
        speech = load_speech(common, victim=victim)
        for entry in run.attacks:
            if entry.title == AUTO_ATTACK and part != "test":
                continue  # which is shown of the test part alone, and costs more than all others
            say(f"{run.config.out}: {entry.title}, {part} part")
            attacked = dataclasses.replace(
                common,
                attack=entry.attack,
                epsilon=tuple(entry.epsilon),
                params=as_params(entry.parameters),
            )
            prepared = prepare_run(attacked, speech)
            attack_missing_rows(prepared, title=entry.title)
            folders.append(prepared.out)
    return folders

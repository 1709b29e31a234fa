"""The runs of a paper's table of defences: one without, and one against each attack and ε.

for run in runs_of(table, config, Path("configs/benchmark/alexnet_emodb.yaml"), root): ...
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxser.config import TrainConfig, as_params
from jaxser.config.evaluate import EvaluateConfig
from jaxser.experiments.paper_training import training_config
from jaxser.papers.defence import DefenceTable
from jaxser.papers.table import Attacked
from jaxser.results.schema import epsilon_names
from jaxser.runtime.errors import UsageError
from jaxser.runtime.text import file_stem

__all__ = ["AUTO_ATTACK", "HardenedRun", "attacks_of", "check_defended", "runs_of"]

# What every defence meets last, however it was trained.
AUTO_ATTACK = "AutoAttack"


@dataclasses.dataclass(frozen=True)
class HardenedRun:
    """A run of a table.

    Attributes:
      against: title of the line whose attack it is trained against; None for usual training.
      config: that trains it.
      attacks: what it is attacked with.
    """

    against: str | None
    config: TrainConfig
    attacks: tuple[Attacked, ...]


def check_defended(table: DefenceTable, config: EvaluateConfig) -> None:
    """UsageError for a table over ε without the defences that it is of."""
    if table.layout == "epsilon" and config.defended != "own":
        raise UsageError(
            f"{table.title} is of victims that were trained against the attack of their line and "
            f"budget; leave out --defended {config.defended}."
        )


def attacks_of(
    table: DefenceTable, config: EvaluateConfig, titles: Sequence[str]
) -> tuple[Attacked, ...]:
    """The lines that are asked for; with all defences also AutoAttack, at the largest budget."""
    lines = tuple(entry for entry in table.lines if entry.title in titles)
    if config.defended != "all":
        return lines
    largest = max(epsilon for entry in lines for epsilon in entry.epsilon)
    return (*lines, Attacked(name=AUTO_ATTACK, attack="autoattack", epsilon=(largest,)))


def runs_of(
    table: DefenceTable, config: EvaluateConfig, path: Path, root: Path, titles: Sequence[str]
) -> Iterator[HardenedRun]:
    """The runs that the command asks for of one victim, the undefended first.

    Args:
      table: with the domain and the budgets that are asked for.
      config: of the command.
      path: of the config file that trains the victim.
      root: folder of the corpus.
      titles: of the lines that are asked for.

    Raises:
      UsageError: what is not known or impossible.
    """
    columns = [entry for entry in table.attacks if entry.title in table.columns]
    everything = attacks_of(table, config, titles)
    if table.layout == "defended":
        plain = training_config(path, _undefended(config), table.kind, root, config.seed)
        yield HardenedRun(None, plain, everything)
    if config.defended == "none":
        return
    names = epsilon_names(epsilon for entry in table.lines for epsilon in entry.epsilon)
    for entry in table.lines:
        if entry.title not in titles:
            continue
        for epsilon in entry.epsilon:
            own = dataclasses.replace(entry, epsilon=(epsilon,))
            same = [dataclasses.replace(c, epsilon=(epsilon,) * bool(c.epsilon)) for c in columns]
            flags = {
                "training.adversarial.attack": entry.attack,
                "training.adversarial.epsilon": str(epsilon),
                "training.adversarial.domain": table.domain,
            }
            if entry.parameters:
                flags["training.adversarial.params"] = " ".join(as_params(entry.parameters))
            suffix = f"_against_{file_stem(entry.title)}_{names[epsilon]}"
            run = training_config(path, config, table.kind, root, config.seed, flags, suffix)
            attacks = everything if config.defended == "all" else (own, *same)
            yield HardenedRun(entry.title, run, attacks)


def _undefended(config: EvaluateConfig) -> EvaluateConfig:
    """Without what ``--set`` says of training against an attack, which others are trained by."""
    if config.defended == "none":
        return config
    return dataclasses.replace(config, set=[text for text in config.set if not _of_defence(text)])


def _of_defence(text: str) -> bool:
    key, _, value = text.partition("=")
    return key.startswith("training.adversarial.") or (key, value) == ("training.monitor", "robust")

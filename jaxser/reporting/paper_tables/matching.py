"""Which rows are of a line of a paper's table.

Rows belong to a line when the attack, all its hyper-parameters but the bounds (which are the
victim's), ε, the domain, the label attacked and what the attack was given of the victim are those
of the line.
"""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxser.attacks import parameters
from jaxser.config import AttackCommandConfig, as_params
from jaxser.driver.named_attack import attack_of
from jaxser.papers.table import Attacked, settings
from jaxser.reporting.paper_tables.paper import Paper
from jaxser.reporting.rows import Rows
from jaxser.reporting.settings import Setting

__all__ = ["candidates_of", "of_entry"]


@functools.cache
def _parameters(attack: str, params: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Name and hyper-parameters, as rows have them."""
    # Through the attack itself, so that defaults and names count as an attack run has them; and
    # through JSON, which makes lists of tuples.
    made: Any = attack_of(AttackCommandConfig(attack=attack, params=params))
    return made.name, json.loads(json.dumps(parameters(made)))


def of_entry(paper: Paper, entry: Attacked, candidates: Sequence[Setting]) -> list[Setting]:
    """The settings that are of a line of the table."""
    if entry.attack == "staanet" and "generator" not in entry.parameters:
        return [setting for setting in candidates if _is_generator(setting, paper, entry)]
    wanted = []
    for grid in settings(entry):
        values = {**entry.parameters, **grid}
        name, known = _parameters(entry.attack, as_params(values))
        wanted.append((name, {k: v for k, v in known.items() if k != "bounds" or k in values}))
    return [
        setting
        for setting in candidates
        if setting.facts["output"] == entry.output
        and _has_epsilon(setting, entry)
        and any(_is_attack(setting, *each) for each in wanted)
    ]


def _is_attack(setting: Setting, name: str, wanted: Mapping[str, Any]) -> bool:
    if setting.facts["attack"] != name:
        return False
    found = json.loads(setting.facts["parameters"])
    return all(found.get(key) == value for key, value in wanted.items())


def _is_generator(setting: Setting, paper: Paper, entry: Attacked) -> bool:
    """Whether a line without a generator may be of these rows: of any, where it is the only one."""
    if setting.facts["attack"] != "staanet" or not _has_epsilon(setting, entry):
        return False
    found = json.loads(setting.facts["parameters"])
    if found.get("compat") != entry.parameters.get("compat"):
        return False
    generator = found["generator"]
    if entry.title in paper.runs:
        return any(run in generator.split() for run in paper.runs[entry.title])
    return sum(each.attack == "staanet" for each in paper.table.attacks) == 1


def _has_epsilon(setting: Setting, entry: Attacked) -> bool:
    if not entry.epsilon:
        return True
    if setting.facts["epsilon_unit"] != "amplitude":
        return False
    # As many digits as a file gives.
    return any(
        math.isclose(setting.facts["epsilon"], value, rel_tol=1e-6) for value in entry.epsilon
    )


def candidates_of(rows: Rows, domain: str, goal: str) -> list[Setting]:
    """The settings that change a domain and leave (or reach) a label, as a whole table does."""
    facts = {"domain": domain, "goal": goal}
    return [s for s in rows.settings if all(s.facts[k] == v for k, v in facts.items())]

"""What a victim is worth: an utterance is robust only if no attack fooled it.

    cases = worst_cases(read_rows("runs/demo"))
    cases[0].epsilon, cases[0].robust           # Estimate of the share that is right after all
    print(robustness_table(read_rows("runs/demo")))

All attacks and seeds at one ε are taken together; rows of another norm are another line.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxser.results.cells import interval
from jaxser.results.estimate import Estimate
from jaxser.results.fitted import folded
from jaxser.results.intervals import policy
from jaxser.results.schema import epsilon_order, epsilon_unit_text
from jaxser.results.summary import outcomes_of, summarise
from jaxser.results.units import Over

__all__ = ["WorstCase", "robustness_table", "worst_cases"]

_BUDGET = ("epsilon_unit", "epsilon_norm", "epsilon")


@dataclasses.dataclass(frozen=True)
class WorstCase:
    """All attacks at one ε.

    Attributes:
      epsilon, epsilon_unit, epsilon_norm: the budget.
      attacks: how many, those of one name with other hyper-parameters included.
      utterances: how many whole ones.
      clean: accuracy before any attack.
      robust: share of the utterances that are right after every attack and seed.
    """

    epsilon: float
    epsilon_unit: str
    epsilon_norm: str
    attacks: int
    utterances: int
    clean: Estimate
    robust: Estimate


def worst_cases(rows: pa.Table, interval_over: Over = "utterance") -> list[WorstCase]:
    """The worst case at every ε, from weak to strong.

    Args:
      rows: of one victim and one corpus, in the row schema.
      interval_over: what a sample is made of.
    """
    keys = rows.group_by(_BUDGET).aggregate([]).to_pylist()
    keys.sort(key=lambda k: (k["epsilon_norm"], epsilon_order(k["epsilon_unit"], k["epsilon"])))
    found = []
    for key in keys:
        chosen = np.ones(len(rows), bool)
        for name, value in key.items():
            chosen &= np.asarray(pc.equal(rows[name], pa.scalar(value, rows[name].type)))
        own = rows.filter(pa.array(chosen))
        # Of one utterance the worst of all its rows: those of all attacks, and of all seeds.
        outcomes = outcomes_of(own, interval_over)
        found.append(
            WorstCase(
                **key,
                attacks=len(own.group_by(["attack", "parameters"]).aggregate([])),
                utterances=outcomes.units.sources,
                clean=outcomes.accuracies[0],
                robust=outcomes.worst.accuracy,
            )
        )
    return found


def robustness_table(
    rows: pa.Table, interval_over: Over = "utterance", width: int | None = None
) -> str:
    """Robust accuracy as text: a line per attack, a column per ε, and the worst case below.

    Args:
      rows: of one victim and one corpus, in the row schema.
      interval_over: what intervals are over.
      width: of the terminal that the table is to fit; None for one table of all ε.
    """
    cases = worst_cases(rows, interval_over)
    budgets = [(case.epsilon_unit, case.epsilon_norm, case.epsilon) for case in cases]
    names = [
        f"{case.epsilon:g} {epsilon_unit_text(*budget[:2])}"
        for case, budget in zip(cases, budgets, strict=True)
    ]
    lines: dict[tuple[str, str], dict[tuple[str, str, float], str]] = {}
    for found in summarise(rows, interval_over=interval_over):
        budget = (found.epsilon_unit, found.epsilon_norm, found.epsilon)
        line = lines.setdefault((found.attack, found.parameters), {})
        line[budget] = interval(found.robust_accuracy)
    titles = [attack for attack, _ in lines]
    shown = [
        name if titles.count(name) == 1 else f"{name} {titles[: i + 1].count(name)}"
        for i, name in enumerate(titles)
    ]
    cells = [["", *names], ["before attacks", *(interval(case.clean) for case in cases)]]
    for title, line in zip(shown, lines.values(), strict=True):
        cells.append([title, *(line.get(budget, "–") for budget in budgets)])
    cells.append(["worst case", *(interval(case.robust) for case in cases)])
    return "\n".join(
        [
            folded(cells, width, left=1),
            "robust accuracy; worst case: an utterance counts only if no attack fooled it",
            policy(interval_over),
        ]
    )

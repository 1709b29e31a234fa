"""What a victim is worth: an utterance is robust only if no attack fooled it.

    cases = worst_cases(read_rows("runs/demo"))
    cases[0].epsilon, cases[0].robust           # Estimate of the share that is right after all
    print(robustness_table(read_rows("runs/demo")))

It is of the utterances that all attacks at an ε were run on. All attacks and seeds are taken
together, and an utterance that was fooled at one ε counts as fooled at every larger one; so does
one whose perturbation of a larger ε turned out to be as small, or for which an attack that looks
for the smallest one found one. What is wrong before any attack is not robust. Rows of another norm
are another line.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from jaxser.results.cells import interval
from jaxser.results.estimate import Estimate
from jaxser.results.fitted import folded
from jaxser.results.intervals import policy, share
from jaxser.results.schema import epsilon_names, epsilon_order, epsilon_unit_text
from jaxser.results.smallest import known_sizes, smallest_sizes, withstood
from jaxser.results.summary import outcomes_of, summarise
from jaxser.results.units import Over

__all__ = ["WorstCase", "robustness_table", "worst_cases"]

_LARGEST = float(np.finfo(np.float64).max)


@dataclasses.dataclass(frozen=True)
class WorstCase:
    """All attacks at one ε.

    Attributes:
      epsilon, epsilon_unit, epsilon_norm: the budget.
      attacks: how many, those of one name with other hyper-parameters included.
      utterances: how many whole ones all attacks were run on.
      clean: their accuracy before any attack.
      robust: share of them that are right before, and that no perturbation of this size is known
        for.
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
    axes = rows.group_by(["epsilon_unit", "epsilon_norm"]).aggregate([]).to_pylist()
    axes.sort(key=lambda axis: (axis["epsilon_norm"], axis["epsilon_unit"]))
    return [case for axis in axes for case in _on_axis(rows, axis, interval_over)]


def _on_axis(rows: pa.Table, axis: Mapping[str, str], over: Over) -> Iterator[WorstCase]:
    """Of rows whose ε are of one unit and norm."""
    unit, norm = axis["epsilon_unit"], axis["epsilon_norm"]
    rows = rows.filter((pc.field("epsilon_unit") == unit) & (pc.field("epsilon_norm") == norm))
    epsilons, attack_of = rows["epsilon"].to_numpy(), _attack_of(rows)
    outcomes = outcomes_of(rows, over)
    units, right = outcomes.units, outcomes.clean == outcomes.label
    fooled = outcomes.found != outcomes.label
    norms, smallest_norms = rows[norm].to_numpy(), rows["found_norm"].to_numpy()
    sizes = known_sizes(unit, epsilons, norms, smallest_norms, fooled)
    # Without a limit, whatever fooled the victim counts, and nothing else.
    sizes[fooled] = np.minimum(sizes[fooled], _LARGEST)
    smallest = smallest_sizes(sizes, ~right, units)
    for epsilon in sorted(set(epsilons.tolist()), key=lambda each: epsilon_order(unit, each)):
        own = np.flatnonzero(epsilons == epsilon)
        limit = min(epsilon_order(unit, epsilon), _LARGEST)
        lines = [own[attack_of[own] == attack] for attack in np.unique(attack_of[own])]
        robust, attacked = withstood(smallest, limit, units, lines)
        shared = own[attacked[units.utterance[own]]]
        its = units.take(shared)
        yield WorstCase(
            epsilon=epsilon,
            epsilon_unit=unit,
            epsilon_norm=norm,
            attacks=len(lines),
            utterances=its.sources,
            clean=share(right[shared], its),
            robust=share(robust, units.each_once(), of=attacked),
        )


def _attack_of(rows: pa.Table) -> Int[np.ndarray, " rows"]:
    """Of every row the number of its attack, by name and hyper-parameters."""
    name, parameters = (
        rows[column].combine_chunks().dictionary_encode().indices.to_numpy()
        for column in ("attack", "parameters")
    )
    return name.astype(np.int64) * (int(parameters.max(initial=0)) + 1) + parameters


def robustness_table(
    rows: pa.Table,
    interval_over: Over = "utterance",
    width: int | None = None,
    cases: Sequence[WorstCase] | None = None,
) -> str:
    """Robust accuracy as text: a line per attack, a column per ε, and the worst case below.

    Args:
      rows: of one victim and one corpus, in the row schema.
      interval_over: what intervals are over.
      width: of the terminal that the table is to fit; None for one table of all ε.
      cases: of :func:`worst_cases` for these rows and intervals, where they are known already.
    """
    if cases is None:
        cases = worst_cases(rows, interval_over)
    budgets = [(case.epsilon_unit, case.epsilon_norm, case.epsilon) for case in cases]
    written = epsilon_names((case.epsilon for case in cases), digits=6)
    names = [
        f"{written[epsilon]} {epsilon_unit_text(unit, norm)}" for unit, norm, epsilon in budgets
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

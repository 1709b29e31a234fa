"""Which attacks are strong and which victims are: optimality, and tests on the same utterances."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool

from jaxser.reporting.grouping import grouped
from jaxser.reporting.section import Section
from jaxser.reporting.settings import LINE
from jaxser.reporting.threats import Threat
from jaxser.results.cells import Cell, Cells, interval, number, percent
from jaxser.results.intervals import paired_difference, policy
from jaxser.results.paired import mcnemar
from jaxser.results.smallest import optimality
from jaxser.results.units import Over

__all__ = ["attacks_against_each_other", "optimalities", "victims_against_each_other"]

# Passes that a row may take, forward and backward.
_BUDGETS = (10, 100, 1_000, 10_000, 100_000)

# Lines of a table of pairs.
_MOST_PAIRS = 60

# Last columns of a table of pairs.
_HEADER = ["difference in robust accuracy", "p", "only the first fooled", "only the second fooled",
           "utterances"]  # fmt: skip


def optimalities(threats: Sequence[Threat]) -> Iterator[Section]:
    """How near each attack comes to the best of all, with any number of passes and with few."""
    for place, threat in enumerate(threats, 1):
        # In dB there is no 0 from which an area begins.
        lines = {label: threat.rows_of(line) for label, line in threat.attacks.items()}
        if threat.falling or len(lines) < 2:
            continue
        numbers = threat.rows.numbers
        passes = (numbers["queries"] + numbers["gradients"])[threat.where]
        budgets = [each for each in _BUDGETS if passes.min() <= each < passes.max()]
        columns = [_optimality(threat, passes <= budget) for budget in budgets]
        columns.insert(0, _optimality(threat, np.ones(len(passes), bool)))
        if not any(np.isfinite(value) for value in columns[0].values()):
            continue
        header = ["attack", "optimality", *(f"≤ {each:,} passes" for each in budgets)]
        cells = [[*header, "forward and backward passes"]]
        for label in sorted(lines, key=lambda each: -columns[0][each]):
            least = passes[lines[label]].min()
            within = [True, *(bool(least <= budget) for budget in budgets)]
            shares = [
                column.get(label, math.nan) if ever else math.nan
                for column, ever in zip(columns, within, strict=True)
            ]
            cells.append(
                [
                    label,
                    *map(percent, shares),
                    number(float(passes[lines[label]].mean()), ",.4g"),
                ]
            )
        yield Section(
            f"{threat.victim}, {threat.speech}, {threat.unit}",
            f"optimality_{place}" if len(threats) > 1 else "optimality",
            cells,
            "Area between the attack's curve of robust accuracy over the size of the smallest "
            "perturbation it found and accuracy without an attack, as a share of that area for the "
            "best of all attacks, utterance by utterance (local optimality, AttackBench, Cinà et "
            "al. 2025). An attack at fixed ε finds no smaller one than the ε it was run at. At a "
            "budget, rows that took more forward and backward passes (a gradient is one of each) "
            "count as not fooled, and the best is that of all attacks within the budget.",
            group="Optimality",
        )


def _optimality(threat: Threat, within: Bool[np.ndarray, " rows"]) -> dict[str, float]:
    """Of every attack, on the utterances that all were run on."""
    sizes = np.where(within, threat.sizes, np.inf)
    found = {label: threat.smallest(line, sizes) for label, line in threat.attacks.items()}
    known = np.all([~np.isnan(each) for each in found.values()], axis=0)
    if not known.any():
        return {}
    return optimality({label: each[known] for label, each in found.items()})


def attacks_against_each_other(
    threats: Sequence[Threat], epsilons: Sequence[float], over: Over
) -> Section | None:
    """The strongest attack against each other one, on the same utterances at the same ε."""
    cells = [["victim", "speech", "ε", "norm", "first", "second", *_HEADER]]
    for threat, epsilon in zip(threats, epsilons, strict=True):
        (strongest, *others) = threat.at(epsilon).items()
        for label, setting in others:
            found = [threat.smallest([each]) for each in (strongest[1], setting)]
            told = [threat.victim, threat.speech, _cell(threat, epsilon), threat.unit]
            cells += _line(threat, epsilon, found, [*told, strongest[0], label])
    return _section("Attack against attack", "attack_pairs", cells, over,
                    "The strongest attack comes first, each of the others second.")  # fmt: skip


def victims_against_each_other(
    threats: Sequence[Threat], epsilons: Sequence[float], over: Over
) -> Section | None:
    """Every two victims on the same utterances, each under the worst of all its attacks."""
    cells = [["speech", "ε", "norm", "first", "second", *_HEADER]]
    chosen = dict(zip(threats, epsilons, strict=True))
    same = [name for name in LINE if name != "victim"] + ["epsilon_unit", "epsilon_norm"]
    groups = grouped(threats, lambda t: tuple(t.settings[0].facts[name] for name in same))
    for group in groups.values():
        for a, b in itertools.combinations(group, 2):
            epsilon = min(chosen[a], chosen[b], key=a.order)
            if not (epsilon in a.epsilons and epsilon in b.epsilons):
                continue
            first, second = sorted((a, b), key=lambda t: t.worst(epsilon).value)
            found = _on_same_utterances(first, second, epsilon)
            told = [first.speech, _cell(first, epsilon), first.unit, first.victim, second.victim]
            cells += _line(first, epsilon, found, told)
    return _section("Victim against victim", "victim_pairs", cells, over,
                    "The worst case over all attacks of each, the less robust first.")  # fmt: skip


def _cell(threat: Threat, epsilon: float) -> Cell:
    """ε as all tables of the report write it."""
    return Cell(threat.rows.epsilons[epsilon], {"": epsilon})


def _on_same_utterances(first: Threat, second: Threat, epsilon: float) -> list[np.ndarray]:
    """Smallest sizes of both, utterance by utterance of the first; NaN where one was not attacked
    at that ε."""
    mine, its = (threat.code("utterance") for threat in (first, second))
    places = {code: place for place, code in enumerate(its.tolist())}
    at = np.array([places.get(code, -1) for code in mine.tolist()])
    own, other = (
        np.where(each.withstood(epsilon)[1], each.smallest_of_all, np.nan)
        for each in (first, second)
    )
    return [own, np.where(at >= 0, other[at], np.nan)]


def _line(threat: Threat, epsilon: float, found: Sequence[np.ndarray], told: list[str]) -> Cells:
    """A line of a table of pairs; none without an utterance that both have."""
    known = ~(np.isnan(found[0]) | np.isnan(found[1]))
    if not known.any():
        return []
    limit = threat.order(epsilon)
    a, b = (each[known] > limit for each in found)
    its = threat.units.each_once().take(known)
    p = mcnemar(a, b) if its.drawn_alone else math.nan
    counts = [number(int(each.sum()), "d") for each in (~a & b, a & ~b)]
    difference = interval(paired_difference(a, b, its), signed=True)
    return [[*told, difference, number(p, ".2g"), *counts, number(its.sources, "d")]]


def _section(title: str, name: str, cells: Cells, over: Over, what: str) -> Section | None:
    if len(cells) == 1:
        return None
    header, *lines = cells
    shown = sorted(lines, key=lambda line: -getattr(line[-5], "parts", {"": 0.0})[""])
    text = (
        f"{what} Differences are of the same utterances, the second less the first; an utterance "
        "counts as fooled if it is at this ε under any seed. p: McNemar's exact test, of one pair "
        "at a time, of the utterances that only one of the two fooled; where these are few, p and "
        "the bootstrap interval may disagree. No p where utterances were cut up or are drawn with "
        "their speakers. "
        f"{policy(over)}."
    )
    return Section(title, name, [header, *shown[:_MOST_PAIRS]], text, group="Paired tests")

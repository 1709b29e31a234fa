"""The victims of a report: what they were trained against, and what their training took."""

import math
from collections.abc import Mapping, Sequence

from jaxser.reporting.section import Section
from jaxser.results.cells import number
from jaxser.results.training_facts import TrainingFacts

__all__ = ["described", "victims"]

_HEADER = [
    *("victim", "training", "training s", "compilation s", "device"),
    *("forward passes", "backward passes"),
]


def described(victim: str, facts: TrainingFacts) -> str:
    """A victim's name, with what it was trained against."""
    return f"{victim} ({facts.defence})" if facts.defence else victim


def victims(known: Mapping[str, TrainingFacts], *, beside: bool = False) -> list[Section]:
    """A line for each victim; no section where rows say nothing of any.

    Args:
      known: facts by the name of a victim.
      beside: whether what a training took is also said of the first line's, as of two runs that
        are compared.
    """
    if all(facts.unrecorded for facts in known.values()):
        return []
    cells = [[*_HEADER, *(["× s", "× backward passes"] if beside else [])]]
    first = next(iter(known.values()))
    for name, facts in known.items():
        line = [
            name,
            facts.defence or "undefended",
            number(facts.seconds, ",.1f"),
            number(facts.compile_seconds, ",.1f"),
            facts.device or "–",
            *(_count(each) for each in (facts.queries, facts.gradients)),
        ]
        cells.append([*line, *(_times(facts, first) if beside else [])])
    text = (
        "Training: seconds from the first update to the last, over all starts of a run, with the "
        "looks at the validation part and without the compilation of the first update. Passes are "
        "of one utterance each, in all updates; looks between them are not counted."
    )
    if beside:
        text += " ×: of what the first line's training took; seconds where the device is the same."
    return [Section("Victims", "victims", cells, text)]


def _count(passes: int | None) -> str:
    return number(math.nan if passes is None else passes, ",")


def _times(facts: TrainingFacts, first: TrainingFacts) -> Sequence[str]:
    """How many times the first line's seconds and backward passes."""
    comparable = facts.device == first.device and first.seconds > 0
    seconds = facts.seconds / first.seconds if comparable else math.nan
    gradients = facts.gradients / first.gradients if facts.gradients and first.gradients else None
    return [number(seconds, ".2g"), number(math.nan if gradients is None else gradients, ".2g")]

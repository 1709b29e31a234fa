"""What a reader wants to know first: how much of a victim is left, where it is weakest, and whether
the figure is to be trusted."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from jaxser.reporting.section import Card, Section
from jaxser.reporting.settings import epsilon_text
from jaxser.reporting.threats import Threat
from jaxser.reporting.warnings import doubts_of
from jaxser.results.cells import Cell, interval, number
from jaxser.results.estimate import Estimate
from jaxser.results.intervals import policy, share
from jaxser.results.units import UNNAMED, Over
from jaxser.runtime.errors import UsageError
from jaxser.runtime.text import counted

__all__ = ["answer", "chosen_epsilons"]

# What can still be heard as clean speech: peak SNR in dB.
_QUIET = 30.0

# Forward and backward passes for a row, from which on an attack is one of several steps.
_MANY = 8

# Victims are cards up to here, and lines of a table beyond.
_MOST_CARDS = 4

_PARTS = {"class": "label", "gender": "gender", "speaker": "speaker"}


def chosen_epsilons(threats: Sequence[Threat], epsilon: float | None) -> list[float]:
    """The ε that a reader cares about, of every threat.

    Args:
      threats: of which each has an ε that is finite.
      epsilon: as asked for; where a threat has no such ε, and by default, the largest at which the
        mean peak SNR is 30 dB or more, or else the weakest.

    Raises:
      UsageError: no threat has the ε that was asked for.
    """
    if epsilon is not None and not any(epsilon in threat.epsilons for threat in threats):
        known = sorted({each for threat in threats for each in threat.epsilons})
        raise UsageError(
            f"no attack was run at epsilon {epsilon}; give one of "
            f"{', '.join(map(str, known)) or 'those of an attack with a limit'}."
        )
    return [_chosen(threat, epsilon) for threat in threats]


def _chosen(threat: Threat, epsilon: float | None) -> float:
    if epsilon in threat.epsilons:
        assert epsilon is not None
        return epsilon
    quiet = [each for each in threat.epsilons if _snr(threat, each) >= _QUIET]
    return quiet[-1] if quiet else threat.epsilons[0]


def _snr(threat: Threat, epsilon: float) -> float:
    """Mean peak SNR in dB of all that was changed at an ε; NaN where it is not known."""
    where = np.concatenate([setting.where for setting in threat.at(epsilon).values()])
    values = threat.rows.numbers["snr_peak"][where]
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def answer(threats: Sequence[Threat], epsilons: Sequence[float], over: Over) -> Section:
    """A card for each victim, or a line where there are many.

    Args:
      threats: with an ε that is finite.
      epsilons: of each, the one to answer for.
      over: what intervals are over.
    """
    cells = [
        [
            *("victim", "speech", "ε", "SNR peak dB", "utterances", "accuracy before"),
            *("worst case", "strongest attack", "it leaves"),
            *(f"weakest {name}" for name in _PARTS),
        ]
    ]
    cards = []
    for threat, epsilon in zip(threats, epsilons, strict=True):
        attacks = threat.at(epsilon)
        label, strongest = next(iter(attacks.items()))
        budget = epsilon_text(strongest)
        weakest = {name: _weakest(threat, epsilon, column) for name, column in _PARTS.items()}
        snr, worst = _snr(threat, epsilon), threat.worst(epsilon)
        clean, attacked = threat.clean_at(epsilon), _attacked(threat, epsilon)
        left = interval(strongest.robust_accuracy)
        cells.append(
            [
                *(threat.victim, threat.speech, budget, number(snr, ".1f")),
                *(number(attacked[-1], "d"), interval(clean), interval(worst)),
                *(label, left, *weakest.values()),
            ]
        )
        facts = {
            "perturbation": f"ε {budget}"
            + (f", mean peak SNR {snr:.1f} dB" if math.isfinite(snr) else ""),
            "strongest attack": f"{label}, which alone leaves {left}",
            **{f"weakest {name}": told for name, told in weakest.items() if told != "–"},
            "attacked": f"{counted(attacked[-1], 'utterance')}, {counted(len(attacks), 'attack')}",
        }
        doubts = [*_too_weak(threat), *_uneven(attacked), *doubts_of(threat.settings)]
        if not doubts:
            facts["doubts"] = "no sign of masked gradients or of a victim that gives one answer"
        figures = {
            "accuracy before attacks": interval(clean),
            "worst case over all attacks": interval(worst),
        }
        several = len({each.unit for each in threats}) > 1
        title = f"{threat.victim}, {threat.speech}{f', {threat.unit}' * several}"
        cards.append(Card(title, figures, facts, doubts))
    return Section(
        "How robust",
        "answer",
        cells,
        "Worst case: an utterance counts only if it is right before and no attack fooled it, at "
        f"this ε or a smaller one. {policy(over)}.",
        cards=cards if len(cards) <= _MOST_CARDS else (),
    )


def _too_weak(threat: Threat) -> Iterator[str]:
    """Attacks that say nothing of what an attack of many steps would leave."""
    passes = [setting.queries[3] + setting.gradients for setting in threat.settings]
    if max(passes) < _MANY:
        names = ", ".join(threat.attacks)
        yield (
            f"Only weak attacks were run ({names}: {max(passes):.4g} passes for a row at most); "
            "attacks of many steps may leave less."
        )


def _attacked(threat: Threat, epsilon: float) -> list[int]:
    """How many utterances each attack was run on at an ε, and last how many all of them were."""
    own = [threat.rows_of([setting]) for setting in threat.at(epsilon).values()]
    _, shared = threat.withstood(epsilon)
    every = np.concatenate(own)
    own.append(every[shared[threat.units.utterance[every]]])
    return [threat.units.take(each).sources for each in own]


def _uneven(attacked: Sequence[int]) -> Iterator[str]:
    if min(attacked) < max(attacked):
        yield (
            f"Attacks were run on different utterances here (one on {max(attacked):,}): the worst "
            f"case is of the {attacked[-1]:,} that all of them were run on."
        )


def _weakest(threat: Threat, epsilon: float, column: str) -> str:
    """The part of the speech of which least is left; a dash where there is one part alone."""
    parts = list(_parts(threat, epsilon, column))
    if len(parts) < 2:
        return "–"
    name, left, count = min(parts, key=lambda part: (part[1].value, -part[2]))
    if len({each.value for _, each, _ in parts}) == 1:
        name = f"all {len(parts)} alike"
    known: dict[str, float | str] = {"": name, "accuracy": left.value}
    known |= {"low": left.low, "high": left.high, "utterances": count}
    return Cell(f"{name}, {interval(left)} of {count:,}", known)


def _parts(threat: Threat, epsilon: float, column: str) -> Iterator[tuple[str, Estimate, int]]:
    """Name, what is left and how many utterances, of every part that has a name."""
    withstood, attacked = threat.withstood(epsilon)
    codes, units = threat.code(column), threat.units.each_once()
    for code in np.unique(codes[attacked & (codes >= 0)]).tolist():
        name = threat.rows.names[column][code]
        own = attacked & (codes == code)
        if name not in UNNAMED:
            yield name, share(withstood, units, of=own), int(own.sum())

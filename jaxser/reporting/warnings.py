"""What a reader must know before any figure: remarks, flags, failures, signs of gradient masking.

for sentence in warnings_of(rows): ...
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxser.reporting.rows import Rows
from jaxser.reporting.settings import Setting, by, epsilon_text, speech
from jaxser.results.cells import percent
from jaxser.results.metrics import one_answer, told_apart
from jaxser.results.outcomes import read_outcomes

__all__ = ["doubts_of", "failures", "one_answers", "warnings_of"]

# Euclidean, of colours in [0, 1]: ten times what rounding to 256 colours moves one.
_OFF_COLOUR = 0.02

# Share of an image's cells.
_DEAD = 0.1

_ONE_STEP = ("fgsm",)
_ITERATED = ("apgd", "bim", "eotpgd", "mifgsm", "pgd")


def warnings_of(rows: Rows) -> list[str]:
    """Sentences about the speech, the victims and the attacks, the gravest first."""
    found = [*rows.notes]
    if rows.synthetic and not any("synthetic" in note for note in rows.notes):
        found.append("The speech is synthetic: these figures say nothing about people.")
    found += doubts_of(rows.settings)
    for name, count in sorted(rows.flags.items()):
        found.append(f"{count:,} of {len(rows):,} rows are flagged: {name}.")
    if rows.repeated:
        found.append(f"{rows.repeated:,} rows were there more than once, and are counted once.")
    return found


def doubts_of(settings: Sequence[Setting]) -> list[str]:
    """What says that robust accuracy is another than it seems, of some settings."""
    return [
        *one_answers(settings),
        *_no_speech(settings),
        *_saturated(settings),
        *_masked_gradients([setting for setting in settings if not setting.transferred]),
    ]


def failures(runs: Sequence[Path]) -> list[str]:
    """What failed in the sweeps among the runs.

    Raises:
      InputError: what a sweep noted cannot be read.
    """
    outcomes = [outcome for run in runs for outcome in read_outcomes(run)]
    return [f"Failed: {each.cell}: {each.reason}" for each in outcomes if each.reason]


def one_answers(settings: Sequence[Setting]) -> Iterator[str]:
    """Victims that say the same of all clean speech, so that attacks cannot take much away."""
    for group in by(settings, "victim", "corpus", "split", "domain").values():
        first = group[0]
        labels, answers = (np.flatnonzero(first.before.sum(axis)).tolist() for axis in (1, 0))
        answer = one_answer(labels, answers)
        if answer is not None:
            rows = int(first.before.sum())
            yield f"{told_apart(_subject(first), first.classes[answer], rows)}."


def _no_speech(settings: Sequence[Setting]) -> Iterator[str]:
    """Attacks that make what no sound belongs to, or that see little of what they change."""
    for group in by(settings, "victim", "corpus", "split", "domain").values():
        farthest = max(group, key=lambda each: np.nan_to_num(each.means["colour_distance"]))
        distance, change = (farthest.means[name] for name in ("colour_distance", "decibel_change"))
        if distance > _OFF_COLOUR:
            yield (
                f"No speech: {farthest.label} at ε {epsilon_text(farthest)} on the image of "
                f"{_subject(farthest)} makes colours that no spectrogram has, {distance:.2f} from "
                "the nearest on average, so no sound belongs to them; the nearest spectrogram "
                f"changes by {change:.1f} dB on average."
            )
        blind = max(group, key=lambda each: np.nan_to_num(each.means["dead_gradients"]))
        share = blind.means["dead_gradients"]
        if share > _DEAD:
            yield (
                f"Dead gradients: {percent(share)} of the cells of {_subject(blind)} have a colour "
                "that does not change with their level, so attacks by gradients do not see them."
            )


def _saturated(settings: Sequence[Setting]) -> Iterator[str]:
    """Victims whose probabilities were attacked in place of their logits."""
    given = [each for each in settings if each.facts["output"] == "probabilities"]
    for group in by(given, "victim", "corpus", "split", "domain").values():
        names = ", ".join(dict.fromkeys(setting.facts["attack"] for setting in group))
        yield (
            f"Gradients are masked: {names} on {_subject(group[0])} were given its probabilities, "
            "whose gradient vanishes where it is confident; what they leave over is saturation, "
            "not robustness, and attacks on its logits say how robust it is."
        )


def _masked_gradients(own: Sequence[Setting]) -> Iterator[str]:
    """Signs that gradients mislead attacks (Athalye et al. 2018, section 3.1).

    Each is beyond chance: the 95 % intervals do not meet.
    """
    where = ("victim", "corpus", "split", "domain", "goal", "epsilon_unit", "epsilon_norm")
    for group in by(own, *where).values():
        for settings in by(group, "epsilon").values():
            yield from _weak_gradients(settings)
        guided = [setting for setting in group if setting.gradients > 0]
        for line in by(guided, "attack", "parameters").values():
            yield from _recovered(line)


def _weak_gradients(settings: Sequence[Setting]) -> Iterator[str]:
    """Attacks of one ε that do better than all that follow gradients, or one step than many."""
    noise = [setting for setting in settings if setting.noise]
    guided = [setting for setting in settings if setting.gradients > 0]
    blind = [setting for setting in settings if setting not in noise and setting not in guided]
    single, many = (
        [setting for setting in guided if setting.facts["attack"] in names]
        for names in (_ONE_STEP, _ITERATED)
    )
    for stronger, weaker in ((noise, guided), (blind, guided), (single, many)):
        if not (stronger and weaker):
            continue
        best, other = (min(group, key=_left) for group in (stronger, weaker))
        if best.figures["accuracy"][1].high < other.figures["accuracy"][1].low:
            yield (
                f"Gradients may be masked: on {_subject(best)} at ε {epsilon_text(best)}, "
                f"{best.label} leaves {percent(_left(best))} accuracy and {other.label} "
                f"{percent(_left(other))}."
            )


def _recovered(line: Sequence[Setting]) -> Iterator[str]:
    """An attack that does worse with more to spend; ε from weak to strong."""
    for less, more in itertools.pairwise(line):
        if more.figures["accuracy"][1].low > less.figures["accuracy"][1].high:
            yield (
                f"Gradients may be masked: on {_subject(less)}, {less.label} leaves "
                f"{percent(_left(less))} accuracy at ε {epsilon_text(less)} and "
                f"{percent(_left(more))} at {epsilon_text(more)}."
            )


def _left(setting: Setting) -> float:
    return setting.figures["accuracy"][1].value


def _subject(setting: Setting) -> str:
    return f"{setting.facts['victim']} with {speech(setting)}"

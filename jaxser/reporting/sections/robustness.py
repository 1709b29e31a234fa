"""How right victims are before and after attacks: of all rows, by class, by gender and speaker."""

import math
from collections.abc import Iterator, Sequence

from jaxser.reporting.rows import Rows, split_by
from jaxser.reporting.section import Section
from jaxser.reporting.settings import ABOUT, LINE, Setting, about, accuracies, strongest
from jaxser.reporting.threats import Threat
from jaxser.results.cells import Cells, interval, number, percent
from jaxser.results.intervals import policy
from jaxser.results.metrics import METRICS
from jaxser.results.units import Over

__all__ = ["before_attacks", "by_epsilon", "parts", "robustness"]

# Speakers, for one, in a table: those with most rows, so that a page stays small.
_MOST_PARTS = 100


def before_attacks(settings: Sequence[Setting], over: Over) -> Section:
    """Clean figures: of the setting with most utterances of each victim and corpus."""
    largest: dict[tuple[str, ...], Setting] = {}
    for setting in settings:
        key = tuple(setting.facts[name] for name in LINE)
        if key not in largest or setting.utterances > largest[key].utterances:
            largest[key] = setting
    cells = [["victim", "corpus", "part", "domain", *METRICS, "utterances"]]
    for key, setting in largest.items():
        figures = [interval(setting.figures[name][0]) for name in METRICS]
        cells.append([*key, *figures, number(setting.utterances, "d")])
    return Section("Before any attack", "clean", cells, f"{policy(over)}.")


def by_epsilon(threats: Sequence[Threat], over: Over) -> Iterator[Section]:
    """A line for each attack, the strongest first, and a column for each ε."""
    for place, threat in enumerate(threats, 1):
        epsilons = threat.epsilons
        cells = [["robust accuracy", *(f"ε {threat.rows.epsilons[each]}" for each in epsilons)]]
        cells.append(["worst case", *(interval(threat.worst(each)) for each in epsilons)])
        for label, line in threat.attacks.items():
            known = {setting.facts["epsilon"]: setting for setting in line}
            found = [known.get(each) for each in epsilons]
            if any(found):
                cells.append([label, *(_left(setting) for setting in found)])
        cells.append(["before attacks", *(interval(threat.clean_at(each)) for each in epsilons)])
        title = f"{threat.victim}, {threat.speech}, {threat.unit}"
        yield Section(
            title,
            f"robust_accuracy_{place}" if len(threats) > 1 else "robust_accuracy",
            cells,
            f"Worst case: the share that is right before and that no attack fooled at this ε or a "
            f"smaller one. {policy(over)}.",
            group="Robust accuracy",
        )


def _left(setting: Setting | None) -> str:
    return "–" if setting is None else interval(setting.robust_accuracy)


def robustness(own: Sequence[Setting], over: Over) -> Section:
    """After every attack at every ε, on the victim that it was run on."""
    seeds = any(setting.seeds > 1 for setting in own)
    several = seeds or any(setting.utterances < len(setting.where) for setting in own)
    targets = any(not math.isnan(setting.reached) for setting in own)
    drawn = any(not math.isnan(setting.means["decibel_change"]) for setting in own)
    cells = [
        [
            *ABOUT,
            *(f"robust {name}" for name in METRICS),
            *("fooled", "on correct"),
            *(["target reached"] if targets else []),
            *("SNR peak dB", "SNR power dB", "changed", "STOI"),
            *(["off colour", "dB change"] if drawn else []),
            *("queries", "rows"),
            *(["utterances"] if several else []),
            *(["seeds", "± over seeds"] if seeds else []),
        ]
    ]
    for setting in own:
        cells += _lines(setting, several, seeds, targets, drawn)
    told = [
        policy(over),
        "Fooled: the prediction changed, of all rows. On correct: the attack succeeded, of the "
        "rows that were right before. SNR, changed samples and STOI are means over the rows that "
        "changed to what the attack wanted",
    ]
    if seeds:
        told.append(
            "An utterance counts as the mean of its seeds; beside that, the standard deviation of "
            "robust accuracy over the seeds, and a line of the worst seed of every utterance, "
            "where it is right only if it is under all seeds"
        )
    if drawn:
        told.append(
            "Off colour: mean distance of a pixel of an attacked image to the colour map; dB "
            "change: what the nearest spectrogram keeps of the attack, mean over its cells"
        )
    text = "".join(f"{sentence}. " for sentence in told).strip()
    return Section("All figures of all attacks", "robustness", cells, text)


def _lines(setting: Setting, several: bool, seeds: bool, targets: bool, drawn: bool) -> Cells:
    """A line of all seeds together and, of several, one of the worst."""
    means, outcomes = setting.means, setting.outcomes
    rows = number(len(setting.where), "d")
    utterances = [number(setting.utterances, "d")] if several else []
    line = [
        *about(setting),
        *(interval(setting.figures[name][1]) for name in METRICS),
        *(percent(setting.fooled), percent(setting.on_correct)),
        *([percent(setting.reached)] if targets else []),
        number(means["snr_peak"], ".1f"),
        number(means["snr_power"], ".1f"),
        percent(means["sparsity"]),
        number(means["stoi"], ".3f"),
        *(
            [number(means["colour_distance"], ".3f"), number(means["decibel_change"], ".1f")]
            if drawn
            else []
        ),
        *(number(setting.queries[3], ",.4g"), rows, *utterances),
        *([number(setting.seeds, "d"), percent(outcomes.deviation)] if seeds else []),
    ]
    if setting.seeds == 1:
        return [line]
    worst = outcomes.worst
    told = about(setting)
    told[2] += ", worst seed"
    robust = {"accuracy": interval(worst.accuracy), "UAR": interval(worst.uar)}
    return [
        line,
        [
            *told,
            *(robust.get(name, "–") for name in METRICS),
            *(percent(worst.fooled.value), percent(worst.on_correct.value)),
            *([percent(worst.reached.value)] if targets else []),
            *["–"] * (7 if drawn else 5),
            *(rows, *utterances, number(setting.seeds, "d"), "–"),
        ],
    ]


def parts(rows: Rows, own: Sequence[Setting]) -> Iterator[Section]:
    """Robust accuracy by gender, class, speaker and language, at the last ε of each attack."""
    last = strongest(own)
    for column in ("gender", "label", "speaker", "language"):
        if len(rows.distinct(column)) < 2:
            continue
        name = "class" if column == "label" else column
        cells = [[*ABOUT, name, "robust accuracy", "accuracy before", "rows"]]
        for setting in last:
            for part, where in split_by(rows, column, setting.where, _MOST_PARTS):
                before, after = map(interval, accuracies(rows, where))
                cells.append([*about(setting), part, after, before, number(len(where), "d")])
        text = f"{policy(rows.interval_over)}. At the strongest ε of every attack"
        if len(rows.distinct(column)) > _MOST_PARTS:
            text += f", the {_MOST_PARTS} with most rows"
        yield Section(
            f"By {name}", f"by_{name}", cells, f"{text}.", group="By gender, class and speaker"
        )

"""How right victims are before and after attacks: of all rows, by class, by gender and speaker."""

import math
from collections.abc import Iterator, Sequence

from jaxser.reporting.figures.canvas import figure_png, new_figure, shortened
from jaxser.reporting.figures.confusion import draw_confusion
from jaxser.reporting.rows import Rows, split_by
from jaxser.reporting.section import Section
from jaxser.reporting.settings import (
    LINE,
    Setting,
    accuracies,
    by,
    epsilon_text,
    speech,
    strongest,
)
from jaxser.results.cells import Cells, interval, number, percent
from jaxser.results.intervals import policy
from jaxser.results.metrics import METRICS
from jaxser.results.units import Over

__all__ = ["before_attacks", "confusions", "parts", "robustness"]

# Speakers, for one, in a table: those with most rows, so that a page stays small.
_MOST_PARTS = 100


def before_attacks(settings: Sequence[Setting], over: Over) -> Section:
    """Clean figures: of the setting with most utterances of each victim and corpus."""
    largest: dict[tuple[str, ...], Setting] = {}
    for setting in settings:
        key = tuple(setting.facts[name] for name in LINE)
        if key not in largest or setting.utterances > largest[key].utterances:
            largest[key] = setting
    cells = [["victim", "corpus", "part", "domain", "utterances", *METRICS]]
    for key, setting in largest.items():
        figures = [interval(setting.figures[name][0]) for name in METRICS]
        cells.append([*key, str(setting.utterances), *figures])
    return Section("Before any attack", "clean", cells, f"{policy(over)}.")


def robustness(own: Sequence[Setting], over: Over) -> Section:
    """After every attack at every ε, on the victim that it was run on."""
    seeds = any(setting.seeds > 1 for setting in own)
    several = seeds or any(setting.utterances < len(setting.where) for setting in own)
    targets = any(not math.isnan(setting.reached) for setting in own)
    drawn = any(not math.isnan(setting.means["decibel_change"]) for setting in own)
    cells = [
        [
            *("victim", "speech", "attack", "ε", "rows"),
            *(["utterances"] if several else []),
            *(["seeds", "± over seeds"] if seeds else []),
            *(f"robust {name}" for name in METRICS),
            *("fooled", "on correct"),
            *(["target reached"] if targets else []),
            *("SNR peak dB", "SNR power dB", "changed", "STOI"),
            *(["off colour", "dB change"] if drawn else []),
            "queries",
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
    return Section("Robustness", "robustness", cells, "".join(f"{text}. " for text in told).strip())


def _lines(setting: Setting, several: bool, seeds: bool, targets: bool, drawn: bool) -> Cells:
    """A line of all seeds together and, of several, one of the worst."""
    about = [setting.facts["victim"], speech(setting), setting.label, epsilon_text(setting)]
    rows = str(len(setting.where))
    means, outcomes = setting.means, setting.outcomes
    line = [
        *(*about, rows),
        *([str(setting.utterances)] if several else []),
        *([str(setting.seeds), percent(outcomes.deviation)] if seeds else []),
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
        number(setting.queries[3], ",.4g"),
    ]
    if setting.seeds == 1:
        return [line]
    worst = outcomes.worst
    about[2] += ", worst seed"
    robust = {"accuracy": interval(worst.accuracy), "UAR": interval(worst.uar)}
    return [
        line,
        [
            *(*about, rows, str(setting.utterances), str(setting.seeds), "–"),
            *(robust.get(name, "–") for name in METRICS),
            *(percent(worst.fooled.value), percent(worst.on_correct.value)),
            *([percent(worst.reached.value)] if targets else []),
            *["–"] * (7 if drawn else 5),
        ],
    ]


def confusions(own: Sequence[Setting]) -> Iterator[Section]:
    """Before any attack, and after the one that leaves the least accuracy."""
    for (victim, *_), group in by(own, *LINE).items():
        worst = min(group, key=lambda setting: setting.figures["accuracy"][1].value)
        size = 1.6 + 0.55 * len(worst.classes)
        figure = new_figure((2 * size + 1, size))
        titles = ("before", f"{worst.label}, {epsilon_text(worst)}")
        places = figure.subplots(1, 2)
        for axes, matrix, title in zip(places, (worst.before, worst.after), titles, strict=True):
            draw_confusion(axes, matrix, worst.classes)
            axes.set_title(shortened(title), fontsize=9)
        places[0].set_ylabel("true")
        kept = [
            f"{name} {row[i]} of {row.sum()}"
            for i, (name, row) in enumerate(zip(worst.classes, worst.after, strict=True))
            if row.sum()
        ]
        words = f"Confusion matrices of rows, before and after {titles[1]}. "
        words += f"Right after: {', '.join(kept)}."
        yield Section(
            f"{victim}, {speech(worst)}",
            "",
            png=(figure_png(figure), words),
            group="Confusion matrices",
        )


def parts(rows: Rows, own: Sequence[Setting]) -> Iterator[Section]:
    """Robust accuracy by gender, class, speaker and language, at the last ε of each attack."""
    last = strongest(own)
    for column in ("gender", "label", "speaker", "language"):
        if len(rows.distinct(column)) < 2:
            continue
        name = "class" if column == "label" else column
        cells = [
            ["victim", "speech", "attack", "ε", name, "rows", "accuracy before", "robust accuracy"]
        ]
        for setting in last:
            line = [setting.facts["victim"], speech(setting), setting.label, epsilon_text(setting)]
            for part, where in split_by(rows, column, setting.where, _MOST_PARTS):
                both = map(interval, accuracies(rows, where))
                cells.append([*line, part, str(len(where)), *both])
        text = f"{policy(rows.interval_over)}. At the strongest ε of every attack"
        if len(rows.distinct(column)) > _MOST_PARTS:
            text += f", the {_MOST_PARTS} with most rows"
        yield Section(
            f"By {name}", f"by_{name}", cells, f"{text}.", group="By gender, class and speaker"
        )

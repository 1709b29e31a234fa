"""How right victims are before and after attacks: of all rows, by class, by gender and speaker."""

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
from jaxser.results.cells import interval, number, percent
from jaxser.results.metrics import METRICS

__all__ = ["before_attacks", "confusions", "parts", "robustness"]

# Speakers, for one, in a table: those with most rows, so that a page stays small.
_MOST_PARTS = 100


def before_attacks(settings: Sequence[Setting]) -> Section:
    """Clean figures: of the setting with most rows of each victim and corpus."""
    largest: dict[tuple[str, ...], Setting] = {}
    for setting in settings:
        key = tuple(setting.facts[name] for name in LINE)
        if key not in largest or len(setting.where) > len(largest[key].where):
            largest[key] = setting
    cells = [["victim", "corpus", "part", "domain", "rows", *METRICS]]
    for key, setting in largest.items():
        figures = [interval(setting.figures[name][0]) for name in METRICS]
        cells.append([*key, str(len(setting.where)), *figures])
    return Section("Before any attack", "clean", cells, "With 95 % bootstrap intervals.")


def robustness(own: Sequence[Setting]) -> Section:
    """After every attack at every ε, on the victim that it was run on."""
    cells = [
        [
            *("victim", "speech", "attack", "ε", "rows"),
            *(f"robust {name}" for name in METRICS),
            *("fooled", "on correct", "success"),
            *("SNR peak dB", "SNR power dB", "changed", "STOI", "queries"),
        ]
    ]
    for setting in own:
        means = setting.means
        cells.append(
            [
                *(setting.facts["victim"], speech(setting), setting.label),
                epsilon_text(setting),
                str(len(setting.where)),
                *(interval(setting.figures[name][1]) for name in METRICS),
                *(percent(v) for v in (setting.fooled, setting.on_correct, setting.success)),
                number(means["snr_peak"], ".1f"),
                number(means["snr_power"], ".1f"),
                percent(means["sparsity"]),
                number(means["stoi"], ".3f"),
                number(setting.queries[3], ",.4g"),
            ]
        )
    return Section(
        "Robustness",
        "robustness",
        cells,
        "Fooled: the prediction changed, of all rows. On correct: the attack succeeded, of the "
        "rows that were right before. Success: of all rows. SNR, changed samples and STOI are "
        "means over the rows that changed to what the attack wanted.",
    )


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
        words = f"Confusion matrices before and after {titles[1]}. Right after: {', '.join(kept)}."
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
        text = "At the strongest ε of every attack"
        if len(rows.distinct(column)) > _MOST_PARTS:
            text += f", the {_MOST_PARTS} with most rows"
        yield Section(
            f"By {name}", f"by_{name}", cells, f"{text}.", group="By gender, class and speaker"
        )

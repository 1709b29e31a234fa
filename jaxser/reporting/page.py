"""The sections of a report: tables of plain text, and pictures, for whatever format."""

import dataclasses
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.figure
import numpy as np

from jaxser.reporting.data import METRICS, Rows, Setting, accuracies, split_by
from jaxser.reporting.figures import draw_confusion, log_bars_figure, shortened
from jaxser.results.rows import EPSILON_UNITS, Estimate

__all__ = [
    "Cells",
    "Section",
    "by",
    "epsilon_text",
    "figure_png",
    "interval",
    "number",
    "percent",
    "sections",
    "speech",
]

Cells = list[list[str]]

# What a line of a table or a curve is of, beside the attack.
_LINE = ("victim", "corpus", "split", "domain")

_HEAT_MAPS_BESIDE = 3

# Speakers, for one, in a table: those with most rows, so that a page stays small.
_MOST_PARTS = 100

_UNITS = {"snr_peak": "peak SNR in dB", "snr_power": "power SNR in dB"}


@dataclasses.dataclass(frozen=True)
class Section:
    """One table or picture, or both.

    Attributes:
      title: of the section.
      name: of its files.
      cells: of its table, the header first; empty for none.
      text: sentences that explain it.
      png: a picture, and what it shows in words.
      group: heading that it stands under together with others; its title by default.
      audio: WAV files to listen to, by what they are.
    """

    title: str
    name: str
    cells: Cells = dataclasses.field(default_factory=list)
    text: str = ""
    png: tuple[bytes, str] | None = None
    group: str = ""
    audio: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


def sections(rows: Rows, seconds: Mapping[str, str]) -> list[Section]:
    """All that rows say, in the order of the page.

    Args:
      rows: of :func:`jaxser.reporting.data.load`.
      seconds: attack -> what papers say that it took; empty for no such column.
    """
    settings = rows.settings
    own = [setting for setting in settings if not setting.transferred]
    heard = [setting for setting in settings if setting.transferred]
    made = [_victims(settings), *_curves(own), _robustness(own)]
    made += [*_confusions(own), *_parts(rows, own), _queries(own), _speed(rows, own, seconds)]
    if heard:
        made += [*_transfer_pictures(settings), _transfer(heard)]
    return made


def _victims(settings: Sequence[Setting]) -> Section:
    """Clean figures: of the setting with most rows of each victim and corpus."""
    largest: dict[tuple[str, ...], Setting] = {}
    for setting in settings:
        key = tuple(setting.facts[name] for name in _LINE)
        if key not in largest or len(setting.where) > len(largest[key].where):
            largest[key] = setting
    cells = [["victim", "corpus", "part", "domain", "rows", *METRICS]]
    for key, setting in largest.items():
        figures = [interval(setting.figures[name][0]) for name in METRICS]
        cells.append([*key, str(len(setting.where)), *figures])
    return Section("Before any attack", "clean", cells, "With 95 % bootstrap intervals.")


def _robustness(own: Sequence[Setting]) -> Section:
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


def _curves(own: Sequence[Setting]) -> Iterator[Section]:
    """Accuracy and UAR over ε, where there is more than one; norms do not share an axis."""
    for key, group in by(own, *_LINE, "epsilon_unit", "epsilon_norm").items():
        lines = _by_label(group)
        lines = {name: line for name, line in lines.items() if _finite(line)}
        if not any(len(line) > 1 for line in lines.values()):
            continue
        victim, *_, unit, norm = key
        axis = f"ε ({norm})" if unit == "amplitude" else _UNITS[unit]
        # Names stand below, two beside each other.
        size = (11, 4.2 + 0.1 * len(lines))
        figure = matplotlib.figure.Figure(figsize=size, layout="compressed", dpi=100)
        for axes, metric in zip(
            figure.subplots(1, 2, sharex=True), ("accuracy", "UAR"), strict=True
        ):
            for name, line in lines.items():
                _draw(axes, name, line, metric)
            before = lines[next(iter(lines))][0].figures[metric][0].value
            axes.axhline(before, color="gray", linewidth=0.8)
            axes.set_ylim(0, 1)
            axes.set_xlabel(axis)
            axes.set_ylabel(f"robust {metric}")
            axes.grid(alpha=0.3)
            if unit == "amplitude":
                axes.set_xscale("log")
            else:
                axes.invert_xaxis()
        handles, names = axes.get_legend_handles_labels()
        shown = [shortened(name) for name in names]
        figure.legend(handles, shown, loc="outside lower left", ncols=2, fontsize=8, frameon=False)
        words = "; ".join(
            f"{name}: accuracy {line[0].figures['accuracy'][1].value:.0%} to "
            f"{line[-1].figures['accuracy'][1].value:.0%}"
            for name, line in lines.items()
        )
        yield Section(
            f"{victim}, {speech(group[0])}, {axis}",
            "",
            group="Accuracy and UAR over ε",
            text="Bands are 95 % bootstrap intervals, the grey line is before any attack, and "
            "noise is dashed.",
            png=(figure_png(figure), f"Robust accuracy and UAR over {axis}: {words}."),
        )


def _draw(axes: Any, name: str, line: Sequence[Setting], metric: str) -> None:
    x = [setting.facts["epsilon"] for setting in line]
    figures = [setting.figures[metric][1] for setting in line]
    style = "--" if line[0].facts["attack"] == "noise" else "-"
    (drawn,) = axes.plot(x, [f.value for f in figures], style, marker=".", label=name)
    axes.fill_between(
        x, [f.low for f in figures], [f.high for f in figures], alpha=0.15, color=drawn.get_color()
    )


def _confusions(own: Sequence[Setting]) -> Iterator[Section]:
    """Before any attack, and after the one that leaves the least accuracy."""
    for (victim, *_), group in by(own, *_LINE).items():
        worst = min(group, key=lambda setting: setting.figures["accuracy"][1].value)
        size = 1.6 + 0.55 * len(worst.classes)
        figure = matplotlib.figure.Figure(
            figsize=(2 * size + 1, size), layout="compressed", dpi=100
        )
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


def _parts(rows: Rows, own: Sequence[Setting]) -> Iterator[Section]:
    """Robust accuracy by gender, class, speaker and language, at the last ε of each attack."""
    strongest = _strongest(own)
    for column in ("gender", "label", "speaker", "language"):
        if len(rows.distinct(column)) < 2:
            continue
        name = "class" if column == "label" else column
        cells = [
            ["victim", "speech", "attack", "ε", name, "rows", "accuracy before", "robust accuracy"]
        ]
        for setting in strongest:
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


def _strongest(own: Sequence[Setting]) -> list[Setting]:
    """Of every attack at its last ε."""
    lines = _by_label(own, *_LINE, "epsilon_unit", "epsilon_norm")
    return [line[-1] for line in lines.values()]


def _queries(own: Sequence[Setting]) -> Section:
    cells = [["victim", "speech", "attack", "ε", "5 %", "median", "95 %", "mean"]]
    for setting in own:
        counted = [number(value, ",.4g") for value in setting.queries]
        line = [setting.facts["victim"], speech(setting), setting.label, epsilon_text(setting)]
        cells.append([*line, *counted])
    return Section(
        "Queries",
        "queries",
        cells,
        "Forward passes for one row. A picture, where rows differ, is at the strongest ε: from 5 % "
        "to 95 % of the rows, with the median.",
        png=_queries_picture(_strongest(own)),
    )


def _queries_picture(strongest: Sequence[Setting]) -> tuple[bytes, str] | None:
    """A bar from 5 % to 95 % of the rows for every attack; none where all rows ask as often."""
    asked = [setting for setting in strongest if setting.queries[2] > 0]
    if all(setting.queries[0] == setting.queries[2] for setting in asked):
        return None
    names = [f"{setting.facts['victim']}, {speech(setting)}: {setting.label}" for setting in asked]
    low, median, high, _ = np.array([setting.queries for setting in asked]).T
    figure = matplotlib.figure.Figure(
        figsize=(11, 1.2 + 0.28 * len(asked)), layout="compressed", dpi=100
    )
    axes = figure.subplots()
    places = np.arange(len(asked))
    axes.hlines(places, np.maximum(low, 1), high, linewidth=6, alpha=0.35)
    axes.plot(median, places, "|", color="black", markersize=10)
    axes.set_yticks(places, [shortened(name) for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("queries for one row")
    axes.grid(axis="x", alpha=0.3)
    words = "; ".join(
        f"{name} {each[0]:,.4g} to {each[2]:,.4g}, median {each[1]:,.4g}"
        for name, each in zip(names, (setting.queries for setting in asked), strict=True)
    )
    return figure_png(figure), f"Queries of 5 % to 95 % of the rows: {words}."


def _speed(rows: Rows, own: Sequence[Setting], papers: Mapping[str, str]) -> Section:
    """Of every attack on every victim, over all ε."""
    header = ["victim", "speech", "attack", "device", "rows", "s per row", "rows/s", "queries/s"]
    cells = [[*header, "compilation s", *(["papers"] if papers else [])]]
    rates = {}
    for (victim, *_, label), line in _by_label(own, *_LINE).items():
        for device, where in split_by(rows, "device", np.concatenate([s.where for s in line])):
            seconds = rows.numbers["seconds"][where].sum()
            if not seconds > 0:
                continue
            queries = rows.numbers["queries"][where].sum()
            compiled = rows.numbers["compile_seconds"][where].max()
            about = [victim, speech(line[0]), label, device]
            rates[", ".join(about)] = len(where) / seconds
            cells.append(
                [
                    *(*about, str(len(where))),
                    number(seconds / len(where), ".3g"),
                    number(len(where) / seconds, ",.4g"),
                    number(queries / seconds, ",.4g"),
                    number(compiled, ".1f"),
                    *([papers.get(line[0].facts["attack"], "–")] if papers else []),
                ]
            )
    return Section(
        "Speed",
        "speed",
        cells,
        "A row is one utterance at one ε. Steady state; compilation is counted apart.",
        png=_speed_picture(rates),
    )


def _speed_picture(rates: Mapping[str, float]) -> tuple[bytes, str] | None:
    """Rows per second as bars on a logarithmic axis; none where no time was taken."""
    if not rates:
        return None
    # Bars begin at the power of ten below the slowest.
    start = 10.0 ** math.floor(math.log10(min(rates.values())) - 1e-9)
    figure = log_bars_figure("rows per second", list(rates), list(rates.values()), start=start)
    words = "; ".join(f"{name} {rate:,.3g}" for name, rate in rates.items())
    return figure_png(figure), f"Rows per second: {words}."


def _transfer(heard: Sequence[Setting]) -> Section:
    cells = [
        ["threat model", "victim", "speech", "attack", "ε", "rows", "fooled", "robust accuracy"]
    ]
    for setting in heard:
        facts = setting.facts
        cells.append(
            [
                *(facts["threat"], facts["victim"], speech(setting), setting.label),
                *(epsilon_text(setting), str(len(setting.where)), percent(setting.fooled)),
                interval(setting.robust_accuracy),
            ]
        )
    return Section(
        "All ε",
        "transfer",
        cells,
        "What was made on a threat model, as other victims hear it.",
        group="Transfer",
    )


def _transfer_pictures(settings: Sequence[Setting]) -> Iterator[Section]:
    """Threat models by victims, of every attack at its last ε; itself beside the others."""
    for group in by(settings, "corpus", "split", "domain").values():
        lines = {
            label: line
            for label, line in _by_label(group).items()
            if any(setting.transferred for setting in line)
        }
        if not lines:
            continue
        threats, victims = (
            sorted({setting.facts[name] for line in lines.values() for setting in line})
            for name in ("threat", "victim")
        )
        columns = min(len(lines), _HEAT_MAPS_BESIDE)
        rows = math.ceil(len(lines) / columns)
        size = (3.5 + columns * (0.6 + 0.8 * len(victims)), rows * (2.2 + 0.5 * len(threats)))
        figure = matplotlib.figure.Figure(figsize=size, layout="compressed", dpi=100)
        places = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        words = []
        for axes, (label, line) in zip(places, lines.items(), strict=False):
            # ε from weak to strong: the last one stays.
            last = {(s.facts["threat"], s.facts["victim"]): s for s in line}
            image = _draw_transfer(axes, last, threats, victims)
            title = f"{label}, ε {epsilon_text(line[-1])}"
            axes.set_title(shortened(title), fontsize=9)
            shares = [f"{a} to {b} {setting.fooled:.0%}" for (a, b), setting in last.items()]
            words.append(f"{title}: {', '.join(shares)}")
        for axes in places[len(lines) :]:
            axes.set_visible(False)
        figure.colorbar(image, ax=list(places), label="fooled")
        figure.supxlabel("victim", fontsize=9)
        figure.supylabel("threat model", fontsize=9)
        yield Section(
            speech(group[0]),
            "",
            png=(figure_png(figure), f"Share fooled: {'; '.join(words)}."),
            group="Transfer",
        )


def _draw_transfer(
    axes: Any,
    last: Mapping[tuple[str, str], Setting],
    threats: Sequence[str],
    victims: Sequence[str],
) -> Any:
    """A heat map into a place of a figure; returns the image, for a scale of colours."""
    shares = np.full((len(threats), len(victims)), np.nan)
    for (threat, victim), setting in last.items():
        shares[threats.index(threat), victims.index(victim)] = setting.fooled
    image = axes.imshow(shares, cmap="Reds", vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape):
        if not math.isnan(shares[row, column]):
            text = f"{shares[row, column]:.0%}"
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(victims)), victims, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(threats)), threats, fontsize=8)
    return image


def by(settings: Sequence[Setting], *names: str) -> dict[tuple[Any, ...], list[Setting]]:
    """Settings by some of their facts, in order."""
    groups: dict[tuple[Any, ...], list[Setting]] = {}
    for setting in settings:
        groups.setdefault(tuple(setting.facts[name] for name in names), []).append(setting)
    return groups


def _by_label(settings: Sequence[Setting], *names: str) -> dict[Any, list[Setting]]:
    """By some facts and the attack's label; by the label alone without any."""
    groups: dict[Any, list[Setting]] = {}
    for setting in settings:
        facts = tuple(setting.facts[name] for name in names)
        groups.setdefault((*facts, setting.label) if names else setting.label, []).append(setting)
    return groups


def speech(setting: Setting) -> str:
    """Corpus and part, and the domain where it is not the waveform."""
    corpus, split, domain = (setting.facts[name] for name in ("corpus", "split", "domain"))
    return f"{corpus}, {split}" + ("" if domain == "waveform" else f", {domain}")


def _finite(line: Sequence[Setting]) -> bool:
    return all(math.isfinite(setting.facts["epsilon"]) for setting in line)


def figure_png(figure: matplotlib.figure.Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def epsilon_text(setting: Setting) -> str:
    """ε with its unit."""
    return f"{setting.facts['epsilon']:.4g}{EPSILON_UNITS[setting.facts['epsilon_unit']]}"


def interval(estimate: Estimate) -> str:
    """A share and its interval; a dash where it is not defined."""
    if math.isnan(estimate.value):
        return "–"
    return f"{estimate.value:.1%} ({estimate.low:.1%}–{estimate.high:.1%})"


def percent(value: float) -> str:
    """A share; a dash where it is not defined."""
    return number(value, ".1%")


def number(value: float, form: str) -> str:
    """A number in a format; a dash for what is not defined."""
    return format(value, form) if math.isfinite(value) else "–"

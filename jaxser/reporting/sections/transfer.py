"""What was made on one victim, the threat model, as other victims hear it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxser.reporting.figures.canvas import figure_png, new_figure, shortened
from jaxser.reporting.section import Section
from jaxser.reporting.settings import Setting, by, by_label, epsilon_text, speech
from jaxser.results.cells import interval
from jaxser.results.intervals import policy
from jaxser.results.units import Over

__all__ = ["heat_maps", "transfer"]

_HEAT_MAPS_BESIDE = 3


def transfer(heard: Sequence[Setting], over: Over) -> Section:
    """A line per threat model, victim, attack and ε."""
    cells = [
        ["threat model", "victim", "speech", "attack", "ε", "rows", "fooled", "robust accuracy"]
    ]
    for setting in heard:
        facts = setting.facts
        cells.append(
            [
                *(facts["threat"], facts["victim"], speech(setting), setting.label),
                *(epsilon_text(setting), str(len(setting.where))),
                *(interval(setting.outcomes.fooled), interval(setting.robust_accuracy)),
            ]
        )
    return Section(
        "All ε",
        "transfer",
        cells,
        f"What was made on a threat model, as other victims hear it. {policy(over)}.",
        group="Transfer",
    )


def heat_maps(settings: Sequence[Setting]) -> Iterator[Section]:
    """Threat models by victims, of every attack at its last ε; itself beside the others."""
    for group in by(settings, "corpus", "split", "domain").values():
        lines = {
            label: line
            for label, line in by_label(group).items()
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
        figure = new_figure(size)
        places = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        words = []
        for axes, (label, line) in zip(places, lines.items(), strict=False):
            # ε from weak to strong: the last one stays.
            last = {(s.facts["threat"], s.facts["victim"]): s for s in line}
            image = _draw(axes, last, threats, victims)
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


def _draw(
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

"""What was made on one victim, the threat model, as other victims hear it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import COLUMN, column_figure, shortened
from jaxser.reporting.figures.confusion import draw_shares
from jaxser.reporting.section import Picture, Section
from jaxser.reporting.settings import ABOUT, Setting, about, by, by_label, epsilon_text, speech
from jaxser.results.cells import interval, number
from jaxser.results.intervals import policy
from jaxser.results.units import Over

__all__ = ["heat_maps", "transfer"]


def transfer(heard: Sequence[Setting], over: Over) -> Section:
    """A line per threat model, victim, attack and ε."""
    cells = [["threat model", *ABOUT, "robust accuracy", "fooled", "rows"]]
    for setting in heard:
        figures = interval(setting.robust_accuracy), interval(setting.outcomes.fooled)
        rows = number(len(setting.where), "d")
        cells.append([setting.facts["threat"], *about(setting), *figures, rows])
    return Section(
        "All ε",
        "transfer",
        cells,
        f"What was made on a threat model, as other victims hear it. {policy(over)}.",
        group="Transfer",
    )


def heat_maps(settings: Sequence[Setting]) -> Iterator[Section]:
    """Threat models by victims, of every attack at its last ε; itself beside the others."""
    for corpus, group in enumerate(by(settings, "corpus", "split", "domain").values(), 1):
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
        pictures = []
        for place, (label, line) in enumerate(lines.items(), 1):
            # ε from weak to strong: the last one stays.
            last = {(s.facts["threat"], s.facts["victim"]): s for s in line}
            title = f"{label}, ε {epsilon_text(line[-1])}"
            shares = [f"{a} to {b} {setting.fooled:.0%}" for (a, b), setting in last.items()]
            figure = _drawn(last, threats, victims, title)
            words = f"Share fooled, {title}: {', '.join(shares)}."
            pictures.append(Picture(figure, words, f"transfer_{corpus}_{place}"))
        yield Section(speech(group[0]), "", pictures=pictures, group="Transfer")


def _drawn(
    last: Mapping[tuple[str, str], Setting],
    threats: Sequence[str],
    victims: Sequence[str],
    title: str,
) -> Figure:
    """A heat map of the share fooled."""
    shares = np.full((len(threats), len(victims)), np.nan)
    for (threat, victim), setting in last.items():
        shares[threats.index(threat), victims.index(victim)] = setting.fooled
    width = max(COLUMN, 1.8 + 0.5 * len(victims))
    figure = column_figure(1.4 + 0.3 * len(threats), width)
    axes = figure.subplots()
    draw_shares(axes, shares)
    for row, column in np.argwhere(np.isfinite(shares)):
        axes.text(column, row, f"{shares[row, column]:.0%}", ha="center", va="center")
    axes.set_xticks(range(len(victims)), map(shortened, victims), rotation=30, ha="right")
    axes.set_yticks(range(len(threats)), map(shortened, threats))
    axes.set_xlabel("fooled victim")
    axes.set_ylabel("threat model")
    axes.set_title(shortened(title), fontsize=8)
    return figure

"""Accuracy and UAR over ε, a curve for every attack."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from jaxser.reporting.figures.canvas import figure_png, in_legend, new_figure, shortened
from jaxser.reporting.section import Section
from jaxser.reporting.settings import LINE, Setting, by, by_label, speech
from jaxser.results.intervals import policy
from jaxser.results.schema import epsilon_unit_text
from jaxser.results.units import Over

__all__ = ["axis_of", "curves"]


def axis_of(setting: Setting) -> tuple[str, bool]:
    """What an axis of ε is, and whether it is logarithmic and grows: in dB it is not, and falls."""
    unit, norm = (setting.facts[name] for name in ("epsilon_unit", "epsilon_norm"))
    return f"ε ({epsilon_unit_text(unit, norm)})", unit == "amplitude"


def curves(own: Sequence[Setting], over: Over) -> Iterator[Section]:
    """Accuracy and UAR over ε, where there is more than one; norms do not share an axis."""
    for key, group in by(own, *LINE, "epsilon_unit", "epsilon_norm").items():
        lines = by_label(group)
        lines = {name: line for name, line in lines.items() if _finite(line)}
        if not any(len(line) > 1 for line in lines.values()):
            continue
        victim = key[0]
        axis, log = axis_of(group[0])
        # Names stand below, two beside each other.
        size = (11, 4.2 + 0.1 * len(lines))
        figure = new_figure(size)
        for axes, metric in zip(
            figure.subplots(1, 2, sharex=True), ("accuracy", "UAR"), strict=True
        ):
            for name, line in lines.items():
                _draw(axes, name, line, metric)
            # What a victim makes of clean speech is the same for all attacks.
            before = lines[next(iter(lines))][0].figures[metric][0].value
            axes.axhline(before, color="gray", linewidth=0.8)
            axes.set_ylim(0, 1)
            axes.set_xlabel(axis)
            axes.set_ylabel(f"robust {metric}")
            axes.grid(alpha=0.3)
            if log:
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
            text=f"{policy(over)}. They are the bands; the grey line is before any attack, and "
            "noise is dashed.",
            png=(figure_png(figure), f"Robust accuracy and UAR over {axis}: {words}."),
        )


def _draw(axes: Any, name: str, line: Sequence[Setting], metric: str) -> None:
    x = [setting.facts["epsilon"] for setting in line]
    figures = [setting.figures[metric][1] for setting in line]
    style = "--" if line[0].facts["attack"] == "noise" else "-"
    (drawn,) = axes.plot(x, [f.value for f in figures], style, marker=".", label=in_legend(name))
    axes.fill_between(
        x, [f.low for f in figures], [f.high for f in figures], alpha=0.15, color=drawn.get_color()
    )


def _finite(line: Sequence[Setting]) -> bool:
    # Attacks without a limit have ε inf, which has no place on an axis.
    return all(math.isfinite(setting.facts["epsilon"]) for setting in line)

"""What is left of a victim over what an attack may change: ε, SNR, intelligibility, found norms."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from jaxser.reporting.figures.curves import Line, curves_figure
from jaxser.reporting.grouping import grouped
from jaxser.reporting.section import Picture, Section
from jaxser.reporting.settings import LINE, Setting
from jaxser.reporting.threats import Threat
from jaxser.results.estimate import Estimate
from jaxser.results.schema import epsilon_unit_text
from jaxser.results.smallest import accuracy_beyond

__all__ = ["axis_of", "epsilon_curves", "loudness_curves", "norm_curves", "uar_curves"]

# Points of a curve that falls at every utterance.
_POINTS = 160

# Column, what it is, and from what on a curve is drawn: quieter or clearer is not told apart.
_LOUDNESS = {
    "snr_peak": ("peak SNR (dB)", 80.0),
    "snr_power": ("SNR of powers (dB)", 80.0),
    "stoi": ("STOI (1: as clear as before)", 1.0),
}


def axis_of(setting: Setting) -> tuple[str, bool]:
    """What an axis of ε is, and whether it is logarithmic and grows: in dB it is not, and falls."""
    unit, norm = (setting.facts[name] for name in ("epsilon_unit", "epsilon_norm"))
    return f"ε ({epsilon_unit_text(unit, norm)})", unit == "amplitude"


def epsilon_curves(threats: Sequence[Threat]) -> Iterator[Section]:
    """Accuracy of all attacks over ε and the worst case, where there is more than one ε."""
    pictures = []
    for number, threat in _with_curves(threats):
        worst = Line("worst case", threat.epsilons, [*map(threat.worst, threat.epsilons)])
        name = f"accuracy_over_epsilon_{number}"
        before = threat.clean.value
        pictures.append(_over_epsilon(threat, threats, "accuracy", before, name, worst))
    if pictures:
        yield Section(
            "Accuracy over ε",
            "",
            text="Worst case: no attack fooled the victim. The band is its 95 % interval; noise is "
            "dashed.",
            pictures=pictures,
        )


def uar_curves(threats: Sequence[Threat]) -> Iterator[Section]:
    """UAR of all attacks over ε."""
    pictures = []
    for number, threat in _with_curves(threats):
        most = max(threat.settings, key=lambda setting: setting.utterances)
        before = most.figures["UAR"][0].value
        pictures.append(_over_epsilon(threat, threats, "UAR", before, f"uar_over_epsilon_{number}"))
    if pictures:
        yield Section("UAR over ε", "", pictures=pictures)


def _with_curves(threats: Sequence[Threat]) -> Iterator[tuple[int, Threat]]:
    """Those with more than one ε, and their numbers among all."""
    return ((n, threat) for n, threat in enumerate(threats, 1) if len(threat.epsilons) > 1)


def _over_epsilon(
    threat: Threat,
    beside: Sequence[Threat],
    metric: str,
    before: float,
    name: str,
    worst: Line | None = None,
) -> Picture:
    """A metric after every attack; ``before`` is its figure without one."""
    axis, log = axis_of(threat.settings[0])
    lines = list(_lines(threat, metric))
    figure = curves_figure(
        axis,
        f"robust {metric}",
        lines,
        worst=worst,
        clean=before,
        log=log,
        falling=threat.falling,
        title=_title(threat, beside),
    )
    told = _words([*lines, *([worst] if worst else [])])
    words = f"Robust {metric} of {threat.victim}, {threat.speech}, over {axis}: {told}"
    return Picture(figure, words, name)


def _lines(threat: Threat, metric: str) -> Iterator[Line]:
    for label, line in threat.attacks.items():
        finite = [setting for setting in line if math.isfinite(setting.facts["epsilon"])]
        if finite:
            x = [setting.facts["epsilon"] for setting in finite]
            y = [setting.figures[metric][1].value for setting in finite]
            yield Line(label, x, y, noise=line[0].noise)


def loudness_curves(threats: Sequence[Threat]) -> Iterator[Section]:
    """Accuracy over SNR and STOI: attacks of all norms on one axis."""
    of_victim = grouped(threats, lambda t: tuple(t.settings[0].facts[name] for name in LINE))
    pictures = []
    for number, group in enumerate(of_victim.values(), 1):
        for column, (axis, most) in _LOUDNESS.items():
            lines = list(_loudness_lines(group, column, most))
            if not lines:
                continue
            figure = curves_figure(
                axis,
                "robust accuracy",
                lines,
                clean=group[0].clean.value,
                falling=True,
                title=_title(group[0], [g[0] for g in of_victim.values()]),
            )
            words = f"Robust accuracy of {group[0].victim}, {group[0].speech}, over {axis}: "
            pictures.append(
                Picture(figure, words + _words(lines), f"accuracy_over_{column}_{number}")
            )
    if pictures:
        yield Section(
            "Accuracy over how much is heard",
            "",
            text="An utterance counts as long as no perturbation is known that fools the victim "
            "and is as quiet, or leaves the speech as clear. All norms are on one axis: quiet to "
            "loud, from left to right.",
            pictures=pictures,
        )


def _loudness_lines(group: Sequence[Threat], column: str, most: float) -> Iterator[Line]:
    found: dict[str, tuple[Float[np.ndarray, " utterances"], bool]] = {}
    for threat in group:
        values = threat.rows.numbers[column][threat.where]
        # What is quiet is small.
        sizes = np.where(np.isnan(values) | ~threat.fooled, np.inf, -values)
        for label, line in threat.attacks.items():
            if np.isfinite(sizes[threat.rows_of(line)]).any():
                name = label if len(group) == 1 else f"{label} ({threat.unit})"
                found[name] = threat.smallest(line, sizes), line[0].noise
    finite = [each[np.isfinite(each)] for each, _ in found.values()]
    known = np.concatenate(finite) if finite else np.empty(0)
    if not len(known) or known.max() <= -most:
        return
    grid = np.linspace(max(-most, known.min()), known.max(), _POINTS)
    for name, (smallest, noise) in found.items():
        left = accuracy_beyond(smallest, grid.tolist())
        yield Line(name, (-grid).tolist(), left, noise, steps=True)


def norm_curves(threats: Sequence[Threat]) -> Iterator[Section]:
    """Of attacks that look for the smallest perturbation: the share that needs a larger one."""
    pictures = []
    for number, threat in enumerate(threats, 1):
        norms = threat.rows.numbers["found_norm"][threat.where]
        sizes = np.where(norms > 0, norms, np.inf)
        found = {
            label: threat.smallest(line, sizes)
            for label, line in threat.attacks.items()
            if np.isfinite(sizes[threat.rows_of(line)]).any()
        }
        finite = [each[np.isfinite(each) & (each > 0)] for each in found.values()]
        known = np.concatenate(finite) if finite else np.empty(0)
        if len(np.unique(known)) < 2:
            continue
        grid = np.geomspace(known.min() / 1.05, known.max() * 1.05, _POINTS).tolist()
        lines = [Line(label, grid, accuracy_beyond(each, grid), steps=True)
                 for label, each in found.items()]  # fmt: skip
        norm = epsilon_unit_text("amplitude", threat.settings[0].facts["epsilon_norm"])
        axis = f"found perturbation ({norm})"
        figure = curves_figure(axis, "share that needs more", lines, clean=threat.clean.value,
                               log=True, title=_title(threat, threats))  # fmt: skip
        medians = _medians(found)
        pictures.append(
            Picture(
                figure, f"Found norms over {axis}; medians: {medians}.", f"found_norms_{number}"
            )
        )
    if pictures:
        yield Section(
            "Found norms",
            "",
            text="Attacks that look for the smallest perturbation, whatever ε: the share of "
            "utterances that is right and needs a larger one than the attack found.",
            pictures=pictures,
        )


def _medians(found: Mapping[str, Float[np.ndarray, " utterances"]]) -> str:
    """Of what was right before; inf where less than half was fooled."""
    told = []
    for label, each in found.items():
        right = np.sort(each[each > 0])
        told.append(f"{label} {right[(len(right) - 1) // 2]:.3g}")
    return ", ".join(told)


def _title(threat: Threat, beside: Sequence[Threat]) -> str:
    """Of a picture, where there are several: what tells it from the others."""
    told = [
        getattr(threat, name)
        for name in ("victim", "speech", "unit")
        if len({getattr(other, name) for other in beside}) > 1
    ]
    return ", ".join(told)


def _words(lines: Sequence[Line]) -> str:
    """The ends of all curves."""

    def ends(line: Line) -> str:
        return " to ".join(
            f"{y.value if isinstance(y, Estimate) else y:.0%}" for y in (line.y[0], line.y[-1])
        )

    return "; ".join(f"{line.name} {ends(line)}" for line in lines) + "."

"""Two runs side by side as curves: over ε, over the epochs of training, and over certified radii.

for section in epsilon_curves(first, second, "runs/plain", "runs/defended"): ...
for section in training_curves({"runs/plain": Path("runs/plain"), ...}): ...
for section in certified_curves(...): ...
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from jaxser.reporting.certificates import certified_curve, certified_sets, certified_table
from jaxser.reporting.figures.compared import Curve, compared_figure
from jaxser.reporting.figures.training import robust_trainings_figure
from jaxser.reporting.grouping import grouped
from jaxser.reporting.pairs import pairs_of, same_settings, several_victims
from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Picture, Section
from jaxser.reporting.sections.curves import axis_of
from jaxser.reporting.settings import Setting, speech
from jaxser.results.certificates import has_certificates, read_certificates
from jaxser.results.estimate import Estimate
from jaxser.results.history import read_history
from jaxser.results.intervals import policy, share
from jaxser.results.units import Over

__all__ = ["certified_curves", "epsilon_curves", "training_curves"]

_GROUP = "Curves side by side"

# What a picture is of, beside the victim where runs have several.
_PICTURE = ("corpus", "split", "domain", "goal", "epsilon_unit", "epsilon_norm")


def epsilon_curves(first: Rows, second: Rows, name: str, other: str) -> Iterator[Section]:
    """Accuracy over ε of both runs, on the pairs of rows that both have.

    Args:
      first, second: rows of the two runs.
      name, other: what tables call them.
    """
    several = several_victims(first, second)
    names = (*_PICTURE, *(("victim",) if several else ()))
    pairs = [
        both for both in same_settings(first, second) if math.isfinite(both[0].facts["epsilon"])
    ]
    pictures = grouped(pairs, lambda both: tuple(both[0].facts[each] for each in names))
    for place, group in enumerate(pictures.values(), 1):
        curves: list[Curve] = []
        for colour, line in enumerate(grouped(group, lambda both: both[0].label).values()):
            curves += _of_attack(first, second, (name, other), colour, line)
        if not any(len(curve.x) > 1 for curve in curves):
            continue
        setting = group[0][0]
        axis, log = axis_of(setting)
        victim = f"{setting.facts['victim']}, " if several else ""
        title = f"{victim}{speech(setting)}, {axis}"
        figure = compared_figure(title, axis, curves, log=log, falling=not log)
        yield Section(
            title,
            "",
            text=f"Accuracy of {name} (dashed) and {other} on the utterances that both attacked. "
            f"{policy(first.interval_over)}: the bands; the grey lines are before any attack.",
            pictures=[
                Picture(
                    figure,
                    f"Accuracy over {axis}: {_words(curves)}.",
                    f"compared_accuracy_{place}",
                )
            ],
            group=_GROUP,
        )


def _of_attack(
    first: Rows,
    second: Rows,
    names: tuple[str, str],
    colour: int,
    line: Sequence[tuple[Setting, Setting]],
) -> Iterator[Curve]:
    """The curves of both runs under one attack; none without a pair of rows."""
    found = []
    for mine, its in line:
        pairs = pairs_of(first, mine.where, second, its.where)
        if pairs is not None:
            found.append((mine.facts["epsilon"], pairs))
    if not found:
        return
    for place, name in enumerate(names):
        yield Curve(
            name=f"{line[0][0].label}, {name}",
            x=[epsilon for epsilon, _ in found],
            accuracies=[share(pairs.figures[place][1], pairs.units) for _, pairs in found],
            colour=colour,
            dashed=place == 0,
            level=share(found[0][1].figures[place][0], found[0][1].units),
        )


def training_curves(folders: Mapping[str, Path]) -> Iterator[Section]:
    """What was watched of the runs that were trained against an attack, epoch by epoch.

    Args:
      folders: by name: of runs, or inside them, as that of their rows.

    Raises:
      InputError: a history that is damaged.
    """
    watched = {}
    for name, folder in folders.items():
        path = next(
            (at for each in _around(folder) if (at := each / "history.csv").is_file()), None
        )
        history = [] if path is None else read_history(path)
        if history and "robust_accuracy" in history[-1]:
            watched[name] = history
    if not watched:
        return
    figure = robust_trainings_figure(watched)
    last = "; ".join(
        f"{name} {its[-1]['robust_accuracy']:.0%} of the training rows"
        + (
            f" and {its[-1]['val_robust_accuracy']:.0%} of the validation rows"
            if "val_robust_accuracy" in its[-1]
            else ""
        )
        for name, its in watched.items()
    )
    yield Section(
        "While they were trained",
        "",
        text="The rows that were watched after every epoch, clean and under PGD. Robust "
        "overfitting is the gap that opens between the solid lines.",
        pictures=[
            Picture(figure, f"Right under PGD after the last epoch: {last}.", "compared_training")
        ],
        group=_GROUP,
    )


def _around(folder: Path) -> Iterator[Path]:
    """A folder, and those above it that may be its run's: rows lie in RUN/attacks/NAME."""
    yield folder
    yield from list(folder.resolve().parents)[:2]


def certified_curves(folders: Mapping[str, Path], over: Over) -> Iterator[Section]:
    """Certified accuracy of both runs; nothing where none of the folders has certificates.

    Args:
      folders: by name.
      over: what intervals are over.

    Raises:
      InputError: files that are damaged.
    """
    sets: list[tuple[str, pa.Table]] = [
        (name, table)
        for name, folder in folders.items()
        if has_certificates(folder)
        for table in certified_sets(read_certificates(folder))
    ]
    if not sets:
        return
    yield certified_table([table for _, table in sets], over, group=_GROUP)
    heard = grouped(sets, lambda each: _heard(each[1]))
    first = next(iter(folders))
    for place, ((corpus, split, domain), group) in enumerate(heard.items(), 1):
        sigmas = list(dict.fromkeys(table["sigma"][0].as_py() for _, table in group))
        curves = []
        for name, table in group:
            sigma, samples = (table[each][0].as_py() for each in ("sigma", "samples"))
            radii, accuracies = certified_curve(table, over)
            curves.append(
                Curve(
                    name=f"σ {sigma:g}, {samples:,} draws, {name}",
                    x=radii,
                    accuracies=accuracies,
                    colour=sigmas.index(sigma),
                    dashed=name == first,
                    steps=True,
                )
            )
        title = f"Certified accuracy, {corpus}, {split}" + (
            "" if domain == "waveform" else f", {domain}"
        )
        figure = compared_figure(title, "L2 norm of the perturbation", curves)
        yield Section(
            title,
            "",
            text="Of the smoothed victims, on the utterances that each has certificates of. "
            f"{policy(over)}.",
            pictures=[
                Picture(
                    figure,
                    f"Certified accuracy over the L2 radius: {_words(curves)}.",
                    f"compared_certified_{place}",
                )
            ],
            group=_GROUP,
        )


def _heard(table: pa.Table) -> tuple[str, ...]:
    return tuple(table[name][0].as_py() for name in ("corpus", "split", "domain"))


def _words(curves: Sequence[Curve]) -> str:
    def ends(accuracies: Sequence[Estimate]) -> str:
        return f"{accuracies[0].value:.0%} to {accuracies[-1].value:.0%}"

    return "; ".join(f"{curve.name}: {ends(curve.accuracies)}" for curve in curves)

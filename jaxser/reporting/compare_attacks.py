"""Two runs under all attacks that both met: what each leaves, the worst case, and confusion.

    for section in attack_matrices(load([Path("runs/a")]), load([Path("runs/b")]), "a", "b"): ...

Each attack counts at the largest ε that both runs have of it, on utterances that both attacked.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int

from jaxser.reporting.figures.matrix import matrix_figure
from jaxser.reporting.grouping import grouped
from jaxser.reporting.pairs import pairs_of, same_settings, several_victims
from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Picture, Section
from jaxser.reporting.sections.flow import confusion_picture
from jaxser.reporting.settings import Setting, epsilon_text, named_classes, speech, strength
from jaxser.results.cells import interval
from jaxser.results.intervals import policy, share
from jaxser.results.metrics import confusion_matrix, uar

__all__ = ["attack_matrices", "compared_confusions"]

# What has to be the same of attacks that stand beside each other, beside the victim where runs have
# several.
_SPEECH = ("corpus", "split", "domain", "goal", "epsilon_unit", "epsilon_norm")

_Both = tuple[Setting, Setting]


def attack_matrices(first: Rows, second: Rows, name: str, other: str) -> Iterator[Section]:
    """A line for each run and a column for each attack, where there are several, and the worst
    case of them.

    Args:
      first, second: rows of the two runs.
      name, other: what tables call them.
    """
    for place, lines in enumerate(_groups(first, second), 1):
        group = [both for line in lines for both in line]
        found = _outcomes(first, second, group)
        if len(lines) < 2 or found is None:
            continue
        before, after, places = found
        units = first.units(places)
        largest = [line[-1] for line in lines]
        titles = [f"{mine.label}, ε {epsilon_text(mine)}" for mine, _ in largest]
        shown = [group.index(both) for both in largest]
        shares = [
            [share(each, units) for each in (clean, *left[shown], clean & left.all(axis=0))]
            for clean, left in zip(before, after, strict=True)
        ]
        header = ["run", "no attack", *titles, "worst case"]
        told = [
            [run, *map(interval, line)] for run, line in zip((name, other), shares, strict=True)
        ]
        title = _title(first, second, group[0][0])
        picture = matrix_figure(
            np.array([[each.value for each in line] for line in shares]),
            [name, other],
            header[1:],
            title,
            "accuracy",
            "run",
        )
        yield Section(
            title,
            f"comparison_matrix_{place}",
            [header, *told],
            f"Accuracy on the {len(places)} utterances that both runs have under all of these "
            "attacks, each at the largest ε that both have. Worst case: right before, and after "
            f"every attack at this ε and at smaller ones. {policy(first.interval_over)}.",
            pictures=[
                Picture(
                    picture, "Accuracy of both runs under every attack.", f"compared_matrix_{place}"
                )
            ],
            group="Runs by attacks",
        )


def compared_confusions(first: Rows, second: Rows, name: str, other: str) -> Iterator[Section]:
    """Confusion of both runs, before and after the attack that leaves least of the second.

    Args are those of :func:`attack_matrices`.
    """
    for place, lines in enumerate(_groups(first, second), 1):
        largest = [line[-1] for line in lines]
        mine, its = min(largest, key=lambda both: both[1].robust_accuracy.value)
        pairs = pairs_of(first, mine.where, second, its.where)
        if pairs is None:
            continue
        after = f"{mine.label}, ε {epsilon_text(mine)}"
        sides = list(zip((name, other), (first, second), pairs.places, strict=True))
        classes = sorted({word for _, rows, where in sides for word in _words(rows, where)})
        pictures = []
        for number, (run, rows, where) in enumerate(sides, 1):
            for kind, matrix in zip(("before", "after"), _both(rows, where, classes), strict=True):
                shown = classes if len(matrix) == len(classes) else [*classes, "none"]
                told = f"{run}, {kind}: UAR {float(uar(matrix)):.1%}"
                pictures.append(
                    confusion_picture(
                        matrix,
                        shown,
                        ("true", f"predicted {kind}"),
                        f"Confusion matrix of {told}.",
                        f"compared_confusion_{place}_{number}_{kind}",
                        told,
                    )
                )
        yield Section(
            f"{_title(first, second, mine)}: before, and after {after}",
            "",
            text="Of the rows that both runs have, under the attack that leaves least of "
            f"{other} at the largest ε.",
            pictures=pictures,
            group="Confusion matrices",
        )


def _groups(first: Rows, second: Rows) -> list[list[list[_Both]]]:
    """Attacks that stand beside each other, of each the common ε from weak to strong."""
    several = several_victims(first, second)
    names = (*_SPEECH, *(("victim",) if several else ()))
    limited = [
        both for both in same_settings(first, second) if math.isfinite(both[0].facts["epsilon"])
    ]
    groups = grouped(limited, lambda both: tuple(both[0].facts[each] for each in names))
    return [
        [
            sorted(line, key=lambda both: strength(both[0]))
            for line in grouped(group, lambda both: both[0].label).values()
        ]
        for group in groups.values()
    ]


def _title(first: Rows, second: Rows, setting: Setting) -> str:
    victim = f"{setting.facts['victim']}, " if several_victims(first, second) else ""
    return f"{victim}{speech(setting)}"


def _outcomes(
    first: Rows, second: Rows, group: Sequence[_Both]
) -> (
    tuple[
        Bool[np.ndarray, "runs utterances"],
        Bool[np.ndarray, "runs attacks utterances"],
        Int[np.ndarray, " utterances"],
    ]
    | None
):
    """Which utterances are right before and after each attack, in each run, and where the first
    run has them; None without an utterance that all have."""
    found = [
        [_by_utterance(rows, both[side].where) for both in group]
        for side, rows in enumerate((first, second))
    ]
    shared = sorted(set.intersection(*(set(each) for run in found for each in run)))
    if not shared:
        return None
    before = np.array([[run[0][name][0] for name in shared] for run in found])
    after = np.array([[[each[name][1] for name in shared] for each in run] for run in found])
    return before, after, np.array([found[0][0][name][2] for name in shared])


def _by_utterance(rows: Rows, where: Int[np.ndarray, " rows"]) -> dict[str, tuple[bool, bool, int]]:
    """By utterance: right before, right after under every seed, and the place of a row."""
    clean, left, _ = rows.right(where)
    found: dict[str, tuple[bool, bool, int]] = {}
    for name, a, b, place in zip(
        rows.words("utterance", where), clean.tolist(), left.tolist(), where.tolist(), strict=True
    ):
        before, after, _ = found.get(name, (True, True, place))
        found[name] = (before and a, after and b, place)
    return found


def _words(rows: Rows, where: Int[np.ndarray, " rows"]) -> set[str]:
    """Classes that occur."""
    columns = ("label", "clean_prediction", "prediction")
    return {word for each in columns for word in rows.words(each, where) if word is not None}


def _both(
    rows: Rows, where: Int[np.ndarray, " rows"], classes: Sequence[str]
) -> Iterator[Int[np.ndarray, "classes classes"]]:
    """Confusion before and after; a class more where logits were not finite."""
    label, *predictions = named_classes(rows, where, classes)
    for predicted in predictions:
        missing = bool((predicted == len(classes)).any())
        yield confusion_matrix(label, predicted, len(classes) + missing)

"""Two runs side by side: what differs on the utterances that both attacked.

    section = comparison(load([Path("runs/a")]), load([Path("runs/b")]), "a", "b")

Differences are of pairs: the same utterance, seed, attack and ε in both runs. The pairs of an
utterance are drawn together, as intervals are over utterances or speakers.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from jaxser.reporting.rows import Rows, split_by
from jaxser.reporting.section import Section
from jaxser.reporting.settings import Setting, epsilon_text, strongest
from jaxser.results.cells import percent
from jaxser.results.intervals import paired_difference, policy, share
from jaxser.runtime.errors import InputError

__all__ = ["comparison", "comparison_by"]

# Lines of a table by speaker.
_MOST_PARTS = 20

# What has to be the same; the victim too, where a run has several.
_SAME = ("corpus", "split", "domain", "attack", "parameters", "goal", "epsilon_unit")


def comparison(first: Rows, second: Rows, name: str, other: str) -> Section:
    """A line for every setting that both have.

    Args:
      first, second: rows of the two runs.
      name, other: what tables call them.

    Raises:
      InputError: nothing to compare.
    """
    several = any(len(rows.distinct("threat")) > 1 for rows in (first, second))
    mine, its = (_by_key(rows, several) for rows in (first, second))
    header = ["corpus", *(["victim"] if several else []), "attack", "ε", "pairs", "utterances"]
    for what in ("accuracy before", "robust accuracy", "fooled"):
        header += [f"{what} {name}", f"{what} {other}", f"difference in {what}"]
    cells = [header]
    for key, setting in mine.items():
        if key in its:
            line = _line(first, setting.where, second, its[key].where)
            if line:
                facts = setting.facts
                victim = [str(facts["victim"])] if several else []
                cells.append(
                    [facts["corpus"], *victim, setting.label, epsilon_text(setting), *line]
                )
    if len(cells) == 1:
        raise InputError(
            f"{name} and {other} have no utterance, attack and epsilon in common"
            f"{' on a victim of the same name' if several else ''}; compare runs of the same sweep."
        )
    return Section(
        f"{other} beside {name}",
        "comparison",
        cells,
        f"Differences are {other} less {name}, of pairs of rows of the same utterance, seed, "
        f"attack and ε. {policy(first.interval_over)}.",
    )


def comparison_by(first: Rows, second: Rows, name: str, other: str) -> Iterator[Section]:
    """What the second run gained or lost per class, gender and speaker, at the last ε of each
    attack that both have; see :func:`comparison`."""
    several = any(len(rows.distinct("threat")) > 1 for rows in (first, second))
    mine, its = (_by_key(rows, several) for rows in (first, second))
    shared = strongest([setting for key, setting in mine.items() if key in its])
    for column in ("label", "gender", "speaker"):
        if len(first.distinct(column)) < 2:
            continue
        shown = "class" if column == "label" else column
        header = ["corpus", *(["victim"] if several else []), "attack", "ε", shown, "utterances"]
        for what in ("accuracy before", "robust accuracy"):
            header += [f"{what} {name}", f"{what} {other}", f"difference in {what}"]
        cells = [header]
        for setting in shared:
            facts, partner = setting.facts, its[_key(setting, several)]
            about = [facts["corpus"], *([str(facts["victim"])] if several else [])]
            about += [setting.label, epsilon_text(setting)]
            for part, where in split_by(first, column, setting.where, _MOST_PARTS):
                line = _line(first, where, second, partner.where, whole=False)
                if line:
                    cells.append([*about, part, *line])
        most = (
            f", the {_MOST_PARTS} with most rows"
            if len(first.distinct(column)) > _MOST_PARTS
            else ""
        )
        if len(cells) > 1:
            yield Section(
                f"{other} beside {name}, by {shown}",
                f"comparison_by_{shown}",
                cells,
                f"Pairs as above, at the strongest ε of every attack{most}. "
                f"{policy(first.interval_over)}.",
            )


def _by_key(rows: Rows, several: bool) -> Mapping[Any, Setting]:
    return {_key(each, several): each for each in rows.settings if not each.transferred}


def _key(setting: Setting, several: bool) -> tuple[Any, ...]:
    names = (*_SAME, *(("victim",) if several else ()), "epsilon")
    return tuple(setting.facts[name] for name in names)


def _line(
    first: Rows,
    mine: Int[np.ndarray, " rows"],
    second: Rows,
    its: Int[np.ndarray, " others"],
    whole: bool = True,
) -> list[str]:
    """Figures of pairs of rows, nothing without a pair; not whole: neither how many pairs there
    are nor how many were fooled."""
    places = [_places(rows, where) for rows, where in ((first, mine), (second, its))]
    shared = sorted(places[0].keys() & places[1].keys())
    if not shared:
        return []
    wheres = [np.array([found[pair] for pair in shared]) for found in places]
    figures = [_figures(rows, where) for rows, where in zip((first, second), wheres, strict=True)]
    # Pairs are of one utterance: the units of the one side are those of the other.
    units = first.units(wheres[0])
    line = [*([str(len(shared))] if whole else []), str(units.sources)]
    for a, b in zip(*(each[: 3 if whole else 2] for each in figures), strict=True):
        line += [percent(share(each, units).value) for each in (a, b)]
        found = paired_difference(a, b, units)
        line.append(f"{found.value:+.1%} ({found.low:+.1%} to {found.high:+.1%})")
    return line


def _places(rows: Rows, where: Int[np.ndarray, " rows"]) -> dict[tuple[str, float], int]:
    names, codes = rows.names["utterance"], rows.texts["utterance"]
    seeds = rows.numbers["seed"]
    return {(names[codes[place]], seeds[place]): int(place) for place in where}


def _figures(rows: Rows, where: Int[np.ndarray, " pairs"]) -> list[Bool[np.ndarray, " pairs"]]:
    """Right before, right after, and changed."""
    label, clean, found = (
        rows.words(column, where) for column in ("label", "clean_prediction", "prediction")
    )
    return [clean == label, found == label, found != clean]

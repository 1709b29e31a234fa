"""Rows of two runs that belong together: the same utterance, seed, attack and ε.

    for mine, its in same_settings(first, second): ...
    pairs = pairs_of(first, mine.where, second, its.where)         # None without any

An utterance may have several pairs, which intervals take for one.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from jaxser.reporting.rows import Rows
from jaxser.reporting.settings import Setting
from jaxser.results.units import Units
from jaxser.runtime.errors import InputError

__all__ = ["Pairs", "check_cuts", "pairs_of", "same_settings", "several_victims"]

# What has to be the same; the victim too, where a run has several.
_SAME = ("corpus", "split", "domain", "output", "attack", "parameters", "goal", "epsilon_unit")


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Of two runs.

    Attributes:
      figures: of the first run and of the second, as of :meth:`Rows.right`.
      places: of the rows of the first run and of the second.
      units: what intervals are made of; those of the one run are those of the other.
    """

    figures: tuple[Sequence[Bool[np.ndarray, " pairs"]], Sequence[Bool[np.ndarray, " pairs"]]]
    places: tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]
    units: Units

    def __len__(self) -> int:
        return len(self.figures[0][0])


def check_cuts(first: Rows, second: Rows, name: str, other: str) -> None:
    """Refuse windows or chunks that were cut in another way: those of one name are other speech.

    Args:
      first, second: the runs; rows of older versions do not say how their speech was cut.
      name, other: what tables call them.

    Raises:
      InputError: see the message.
    """
    mine, its = _cuts(first), _cuts(second)
    for corpus in mine.keys() & its.keys():
        if mine[corpus].isdisjoint(its[corpus]):
            here, there = (" and ".join(sorted(each[corpus])) for each in (mine, its))
            raise InputError(
                f"{name} is of {here} of {corpus}, and {other} of {there}, which are other speech "
                "by the same names; compare runs whose speech is cut alike, or give both to python "
                "-m jaxser.report without --compare."
            )


def _cuts(rows: Rows) -> dict[str, set[str]]:
    """How the utterances of each corpus were cut, where they were."""
    found: dict[str, set[str]] = {}
    for corpus in (source["corpus"] for source in rows.sources):
        if corpus.get("cut"):
            found.setdefault(corpus["title"], set()).add(corpus["cut"])
    return found


def several_victims(first: Rows, second: Rows) -> bool:
    """Whether a victim's name has to be the same, as one of the runs has several."""
    return any(len(rows.distinct("threat")) > 1 for rows in (first, second))


def same_settings(first: Rows, second: Rows) -> Iterator[tuple[Setting, Setting]]:
    """Settings that both runs have, in the order of the first."""
    several = several_victims(first, second)
    mine, its = (_by_key(rows, several) for rows in (first, second))
    for key, setting in mine.items():
        if key in its:
            yield setting, its[key]


def pairs_of(
    first: Rows,
    mine: Int[np.ndarray, " rows"],
    second: Rows,
    its: Int[np.ndarray, " others"],
) -> Pairs | None:
    """The pairs among some rows of each run; None where there is none.

    Args:
      first, second: the runs.
      mine, its: places of their rows of one setting.
    """
    places = [_places(rows, where) for rows, where in ((first, mine), (second, its))]
    shared = sorted(places[0].keys() & places[1].keys())
    if not shared:
        return None
    a, b = (np.array([found[pair] for pair in shared]) for found in places)
    return Pairs((first.right(a), second.right(b)), (a, b), first.units(a))


def _by_key(rows: Rows, several: bool) -> Mapping[Any, Setting]:
    names = (*_SAME, *(("victim",) if several else ()), "epsilon")
    return {
        tuple(each.facts[name] for name in names): each
        for each in rows.settings
        if not each.transferred
    }


def _places(rows: Rows, where: Int[np.ndarray, " rows"]) -> dict[tuple[str, float], int]:
    names, codes = rows.names["utterance"], rows.texts["utterance"]
    seeds = rows.numbers["seed"]
    return {(names[codes[place]], seeds[place]): int(place) for place in where}

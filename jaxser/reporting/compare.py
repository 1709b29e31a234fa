"""Two runs side by side: what differs on the utterances that both attacked.

    section = comparison(load([Path("runs/a")]), load([Path("runs/b")]), "a", "b")

Differences are of pairs: the same utterance, seed, attack and ε in both runs. The pairs of an
utterance are drawn together, as intervals are over utterances or speakers.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from jaxser.reporting.pairs import check_cuts, pairs_of, same_settings, several_victims
from jaxser.reporting.rows import Rows, split_by
from jaxser.reporting.section import Section
from jaxser.reporting.sections.victims import victims
from jaxser.reporting.settings import epsilon_text, strongest
from jaxser.results.cells import interval, number, percent
from jaxser.results.intervals import paired_difference, policy, share
from jaxser.runtime.errors import InputError

__all__ = ["compared_victims", "comparison", "comparison_by"]

# Lines of a table by speaker.
_MOST_PARTS = 20


def compared_victims(first: Rows, second: Rows, name: str, other: str) -> list[Section]:
    """What the victims of both runs were trained against, and what the training of each took."""
    both = first.victims.keys() & second.victims.keys()
    known = {
        f"{run}: {victim}" if victim in both else victim: facts
        for run, rows in ((name, first), (other, second))
        for victim, facts in rows.victims.items()
    }
    return victims(known, beside=True)


def comparison(first: Rows, second: Rows, name: str, other: str) -> Section:
    """A line for every setting that both have.

    Args:
      first, second: rows of the two runs.
      name, other: what tables call them.

    Raises:
      InputError: nothing to compare, or speech that was cut in different ways.
    """
    check_cuts(first, second, name, other)
    several = several_victims(first, second)
    header = ["corpus", *(["victim"] if several else []), "attack", "ε", "pairs", "utterances"]
    for what in ("accuracy before", "robust accuracy", "fooled"):
        header += [f"{what} {name}", f"{what} {other}", f"difference in {what}"]
    cells = [header]
    for setting, partner in same_settings(first, second):
        line = _line(first, setting.where, second, partner.where)
        if line:
            facts = setting.facts
            victim = [str(facts["victim"])] if several else []
            cells.append([facts["corpus"], *victim, setting.label, epsilon_text(setting), *line])
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
    several = several_victims(first, second)
    partners = dict(same_settings(first, second))
    for column in ("label", "gender", "speaker"):
        if len(first.distinct(column)) < 2:
            continue
        shown = "class" if column == "label" else column
        header = ["corpus", *(["victim"] if several else []), "attack", "ε", shown, "utterances"]
        for what in ("accuracy before", "robust accuracy"):
            header += [f"{what} {name}", f"{what} {other}", f"difference in {what}"]
        cells = [header]
        for setting in strongest(list(partners)):
            facts, partner = setting.facts, partners[setting]
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


def _line(
    first: Rows,
    mine: Int[np.ndarray, " rows"],
    second: Rows,
    its: Int[np.ndarray, " others"],
    whole: bool = True,
) -> list[str]:
    """Figures of pairs of rows, nothing without a pair; not whole: neither how many pairs there
    are nor how many were fooled."""
    pairs = pairs_of(first, mine, second, its)
    if pairs is None:
        return []
    line = [*([number(len(pairs), "d")] if whole else []), number(pairs.units.sources, "d")]
    for a, b in zip(*(each[: 3 if whole else 2] for each in pairs.figures), strict=True):
        line += [percent(share(each, pairs.units).value) for each in (a, b)]
        found = paired_difference(a, b, pairs.units)
        line.append(interval(found, signed=True))
    return line

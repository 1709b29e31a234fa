"""In how many cells of a table one thing is less than another, here and as printed.

    tallies(evaluations)            # Markdown: "white-box attacks ...: 9 of 15"

Facchinetti et al., 2024, sections 3.1.1, 3.2.4 and 3.2.5 conclude from such counts: male speech is
more vulnerable in 9 of 15 cells, Italian keeps the most accuracy under 4 of 7 attacks. They are no
tests: see :mod:`jaxser.reporting.evaluation.differences` for what can be told from chance.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from jaxser.papers.table import Published, Table
from jaxser.reporting.evaluation.outcomes import GROUPS, Evaluation
from jaxser.reporting.grouping import first_of_each, grouped
from jaxser.results.cells import Cells, markdown_table, percent

__all__ = ["Figures", "printed", "tallied", "tallies"]

# Corpus -> attack -> accuracy, or mean absolute change, of all, female and male utterances.
Figures = Mapping[str, Mapping[str, Sequence[float]]]


def tallies(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Counts over the attacks that a table tallies, of the first victim of each corpus; by
    protocol, as victims of one may not stand beside those of another."""
    table = evaluations[0].table
    if not table.white_box:
        return
    for protocol, group in grouped(evaluations, lambda each: each.protocol).items():
        first = first_of_each(group, lambda each: each.corpus.name)
        accuracy, change = (
            {
                corpus: {
                    line.attack: [getattr(line, name)(gender) for gender in GROUPS]
                    for line in each.best
                }
                for corpus, each in first.items()
            }
            for name in ("accuracy", "mean_abs")
        )
        here = tallied(table, accuracy, change)
        theirs = [
            tallied(table, *(printed(table, name, notebooks) for name in ("accuracy", "mean_abs")))
            for notebooks in (False, True)
        ]
        names = list(dict.fromkeys([*theirs[0], *here]))
        cells: Cells = [["", "here", "in the paper's tables", "in its notebooks"]]
        cells += [[name, *(its.get(name, "–") for its in (here, *theirs))] for name in names]
        victims = ", ".join(str(each.victim) for each in first.values())
        yield f"#### Tallies ({protocol})"
        yield (
            f"In how many cells, of {victims}; equal figures count for neither side, and what has "
            "no figures is left out. Counts are no tests: cells of one victim hang together."
        )
        yield markdown_table(cells)


def printed(table: Table, name: str, notebooks: bool = False) -> Figures:
    """What a paper printed: "accuracy" or "mean_abs"; or its notebooks, where they differ."""

    def of(published: Published) -> Sequence[float]:
        values: Sequence[float] = getattr(published, name) or [math.nan] * len(GROUPS)
        others: Sequence[float] = getattr(published.notebooks, name) if notebooks else ()
        pairs = itertools.zip_longest(values, others, fillvalue=math.nan)
        return [value if math.isnan(other) else other for value, other in pairs]

    return {
        corpus: {attack: of(published) for attack, published in attacks.items()}
        for corpus, attacks in table.published.items()
    }


def tallied(table: Table, accuracy: Figures, change: Figures) -> dict[str, str]:
    """Each statement -> in how many cells it holds, such as "9 of 15"."""
    white, black = table.white_box, table.black_box
    every, corpora, found = (*white, *black), list(accuracy), {}
    for statement, attacks, compared in (
        ("white-box attacks leave male speech less accuracy than female", white, (accuracy,)),
        ("white-box attacks change male speech less than female", white, (change,)),
        (
            "white-box attacks leave male speech less accuracy and change it less",
            white,
            (accuracy, change),
        ),
        ("black-box attacks leave male speech less accuracy than female", black, (accuracy,)),
        ("black-box attacks change male speech less than female", black, (change,)),
    ):
        holds = {corpus: list(_male_less(compared, corpus, attacks)) for corpus in corpora}
        found[statement] = _count(itertools.chain(*holds.values()))
        if len(corpora) > 1:
            found |= {f"{statement}, {name}": _count(its) for name, its in holds.items()}
    if len(corpora) > 1:
        sides: tuple[tuple[str, Figures, Callable[..., float]], ...] = (
            ("keeps the most accuracy of all corpora", accuracy, max),
            ("keeps the least accuracy of all corpora", accuracy, min),
            ("is changed the most of all corpora", change, max),
        )
        for statement, figures, end in sides:
            for corpus in corpora:
                found[f"{corpus} {statement}"] = _count(_leads(figures, corpus, every, end))
    for corpus in corpora:
        means = [all_ for all_, *_ in _known(accuracy, corpus, white)]
        if len(means) == len(white):
            name = f"mean accuracy after white-box attacks, {corpus}"
            found[name] = percent(float(np.mean(means)))
    return {name: text for name, text in found.items() if text}


def _male_less(figures: Sequence[Figures], corpus: str, attacks: Iterable[str]) -> Iterator[bool]:
    """Whether each figure of male speech is less than that of female, for every attack that has
    them all."""
    for attack in attacks:
        each = [its.get(corpus, {}).get(attack, (math.nan,) * len(GROUPS)) for its in figures]
        if not any(math.isnan(male - female) for _, female, male in each):
            yield all(male < female for _, female, male in each)


def _known(figures: Figures, corpus: str, attacks: Iterable[str]) -> list[Sequence[float]]:
    """The figures of those attacks that have some."""
    of_corpus = figures.get(corpus, {})
    its = [of_corpus[attack] for attack in attacks if attack in of_corpus]
    return [values for values in its if not math.isnan(values[0])]


def _leads(
    figures: Figures, corpus: str, attacks: Iterable[str], end: Callable[..., float]
) -> Iterator[bool]:
    """Whether a corpus alone is at one end, for every attack that two corpora have figures of."""
    for attack in attacks:
        values = {
            name: its[attack][0]
            for name, its in figures.items()
            if attack in its and not math.isnan(its[attack][0])
        }
        if corpus in values and len(values) > 1:
            extreme = end(values.values())
            yield values[corpus] == extreme and list(values.values()).count(extreme) == 1


def _count(holds: Iterable[bool]) -> str:
    """``9 of 15``; empty where there is nothing to count."""
    found = list(holds)
    return f"{sum(found)} of {len(found)}" if found else ""

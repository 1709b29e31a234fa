"""Whether groups, languages, protocols and domains differ: statements with their intervals."""

import itertools
from collections.abc import Iterator, Sequence

from jaxser.reporting.evaluation.outcomes import GROUPS, Evaluation, Outcomes, accuracy_at_snr
from jaxser.reporting.evaluation.tables import shown
from jaxser.reporting.grouping import first_of_each, grouped
from jaxser.results.cells import Cells, markdown_table
from jaxser.results.intervals import Difference, difference, policy

__all__ = ["domains", "genders", "languages", "leak"]


def genders(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Whether female and male speech suffer differently."""
    cells = [["victim", "attack", "female − male", "95 %", "speakers", ""]]
    for evaluation in evaluations:
        for line in evaluation.best:
            sides = [line.outcomes.only(group) for group in GROUPS[1:]]
            cells += _compared([evaluation.title, line.attack], *sides)
    yield from _told("#### Accuracy lost: female less male", _ABOUT_INTERVALS, cells)


def languages(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Whether corpora of different languages suffer differently, protocol by protocol."""
    cells = [["corpora", "attack", "first − second", "95 %", "speakers", ""]]
    left_out: list[str] = []
    for group in grouped(evaluations, lambda each: each.protocol).values():
        by_corpus = grouped(group, lambda each: each.corpus.name)
        victims = [its[0] for its in by_corpus.values()]
        left_out += [str(each.victim) for its in by_corpus.values() for each in its[1:]]
        for first, second in itertools.combinations(victims, 2):
            names = f"{first.title} − {second.title}"
            theirs = {line.attack: line for line in second.best}
            for line in first.best:
                if line.attack in theirs:
                    sides = line.outcomes, theirs[line.attack].outcomes
                    cells += _compared([names, line.attack], *sides)
    text = _ABOUT_INTERVALS + _without(left_out, "corpus and protocol")
    yield from _told("#### Accuracy lost: corpus less corpus", text, cells)


_ABOUT_INTERVALS = (
    "Of the same utterances before and after the strongest setting. "
    f"{policy('speaker')}: whether groups differ is a question about speakers. "
    "With few speakers on a side an interval is too narrow."
)


def _without(left_out: Sequence[str], of_each: str) -> str:
    """That of several victims one is compared; nothing where there is one."""
    if not left_out:
        return ""
    names = ", ".join(dict.fromkeys(left_out))
    return f" Of each {of_each} the first victim is compared; left out: {names}."


def _told(heading: str, text: str, cells: Cells) -> Iterator[str]:
    """Heading, text and table; nothing where the table has no line below its header."""
    if len(cells) > 1:
        yield heading
        yield text
        yield markdown_table(cells)


def _compared(head: list[str], first: Outcomes, second: Outcomes) -> Cells:
    found = difference(
        (first.damage, first.speakers, first.sources),
        (second.damage, second.speakers, second.sources),
    )
    return [] if found is None else [[*head, *_difference(found)]]


def _difference(found: Difference) -> list[str]:
    return [
        f"{found.value:+.1%}",
        f"{found.low:+.1%} to {found.high:+.1%}",
        f"{found.speakers[0]}, {found.speakers[1]}",
        "differ" if found.decided else "no difference shown",
    ]


def leak(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """What a protocol that leaks is worth: accuracy before any attack."""
    cells = [["corpus", "paper", "clean", "paper − clean", "95 %", "speakers", ""]]
    left_out: list[str] = []
    for corpus, group in grouped(evaluations, lambda each: each.corpus.name).items():
        protocols = first_of_each(group, lambda each: each.protocol)
        taken = {each.victim for each in protocols.values()}
        left_out += [str(each.victim) for each in group if each.victim not in taken]
        if set(protocols) == {"paper", "clean"}:
            sides = [protocols[name].clean for name in ("paper", "clean")]
            found = difference(
                *((side.right.astype(float), side.speakers, side.sources) for side in sides)
            )
            assert found is not None
            values = [shown(side.figures()["accuracy"]) for side in sides]
            cells.append([corpus, *values, *_difference(found)])
    yield from _told(
        "## What the leak is worth",
        "Accuracy before any attack, by the paper's protocol and by a clean one. "
        f"{policy('speaker')}." + _without(left_out, "corpus and protocol"),
        cells,
    )


def domains(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Which attacks on features survive when they must be audio."""
    for group in grouped(evaluations, lambda each: each.victim).values():
        found = first_of_each(group, lambda each: each.table.domain)
        if set(found) != {"features", "waveform"} or not found["waveform"].table.snr:
            continue
        features, waveform = found["features"], found["waveform"]
        levels = waveform.table.snr
        heads = [f"waveform, {level:g} dB" for level in levels]
        cells = [["attack", "before", "features", *heads]]
        theirs = grouped(waveform.lines, lambda line: line.attack)
        for line in features.best:
            lines = theirs.get(line.attack)
            if lines is not None:
                left = [shown(accuracy_at_snr(lines, level)) for level in levels]
                before = shown(float(line.outcomes.before.mean()))
                cells.append([line.attack, before, shown(line.accuracy()), *left])
        yield from _told(
            f"## Features against waveform: {features.title}",
            "Accuracy left where the attack changes the standardised spectrogram, and where it "
            "has to be speech of a power SNR of so many dB or more.",
            cells,
        )

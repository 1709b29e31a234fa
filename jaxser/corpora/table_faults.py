"""What is wrong with a corpus' table, whatever its audio is: one class under two names and so on.

    table_faults(utterances)      # ["the labels Angry (1) and angry (2) are one spelt two ways"]

A table is taken at its word otherwise: every spelling is a class or a speaker of its own, and the
figures are those of other classes than the user meant.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from jaxser.corpora.table import UNKNOWN, Utterance

__all__ = ["same_name", "table_faults"]

# How programs write a value that is missing. "none" and "na" may be names of a class.
_MISSING = frozenset({"nan", "null", "nat", "n/a", "#n/a", "<na>", "undefined", "missing"})
_MISSING_SPEAKER = _MISSING | {"none", "na", "-", "?"}
_SHOWN = 5


def same_name(name: str) -> str:
    """A key that two spellings of one name share.

    They differ in case, in spaces, hyphens and underscores, or in how Unicode composes them.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.replace("_", " ").replace("-", " ").split()) or name


def table_faults(utterances: Sequence[Utterance]) -> list[str]:
    """Half a sentence for every fault of the table.

    Labels or speakers spelt two ways, values that mean "missing", speakers missing from some lines,
    and speakers of two genders.
    """
    labels = Counter(u.label for u in utterances)
    speakers = Counter(u.speaker for u in utterances)
    faults = [*_spelt_twice("label", labels), *_spelt_twice("speaker", speakers)]
    for what, counts, missing in (
        ("label", labels, _MISSING),
        ("speaker", speakers, _MISSING_SPEAKER),
    ):
        faults += [
            f"{_number(count)} the {what} {name!r}, which is how a missing one is written"
            for name, count in sorted(counts.items())
            if name.casefold() in missing
        ]
    if UNKNOWN in speakers and len(speakers) > 1:
        faults.append(f"{_number(speakers[UNKNOWN])} no speaker, while others have one")
    genders: dict[str, Counter[str]] = defaultdict(Counter)
    for u in utterances:
        if UNKNOWN not in (u.speaker, u.gender):
            genders[u.speaker][u.gender] += 1
    both = [(name, found) for name, found in sorted(genders.items()) if len(found) > 1]
    faults += [
        f"speaker {name} is "
        + " and ".join(f"{gender} in {_lines(n)}" for gender, n in sorted(found.items()))
        for name, found in both[:_SHOWN]
    ]
    if len(both) > _SHOWN:
        faults.append(f"{len(both) - _SHOWN:,} more speakers are of two genders")
    return faults


def _spelt_twice(what: str, counts: Counter[str]) -> Iterable[str]:
    spellings = defaultdict(list)
    for name in sorted(counts):
        spellings[same_name(name)].append(name)
    groups = [names for names in spellings.values() if len(names) > 1]
    for names in groups[:_SHOWN]:
        listed = " and ".join(f"{_shown(name, names)} ({counts[name]:,})" for name in names)
        yield f"the {what}s {listed} are one, spelt in {len(names)} ways"
    if len(groups) > _SHOWN:
        yield f"{len(groups) - _SHOWN:,} more {what}s are spelt in several ways"


def _shown(name: str, names: Sequence[str]) -> str:
    """``name``, with its code points where others of ``names`` look the same."""
    alike = [unicodedata.normalize("NFC", other) for other in names]
    return ascii(name) if alike.count(unicodedata.normalize("NFC", name)) > 1 else repr(name)


def _number(count: int) -> str:
    return f"{count:,} utterance{' has' if count == 1 else 's have'}"


def _lines(count: int) -> str:
    return f"{count:,} utterance{'' if count == 1 else 's'}"

"""Which utterances a user wants to look at and to listen to, by as much of their ids as is needed.

places = shown_places(config, speech)           # of --show 03a01Fa, whose id is wav/03a01Fa
"""

import difflib
from collections.abc import Callable, Sequence

from jaxser.config import AttackCommandConfig
from jaxser.corpora import Utterance
from jaxser.driver.speech import Speech
from jaxser.runtime.errors import UsageError
from jaxser.runtime.text import counted, shown_value

__all__ = ["place_of", "shown_places"]

# Ids in a message.
_LISTED = 3


def shown_places(config: AttackCommandConfig, speech: Speech) -> tuple[int, ...]:
    """Places of the utterances of ``--show`` among those that are attacked, each once.

    Raises:
      UsageError: none is meant, several are, or one that is not attacked.
    """
    places = []
    for name in config.show:
        place = place_of("--show", name, speech.utterances)
        if place is None:
            raise UsageError(_not_there(name, config, speech))
        places.append(place)
    return tuple(dict.fromkeys(places))


def place_of(flag: str, name: str, utterances: Sequence[Utterance]) -> int | None:
    """Place of the utterance that ``name`` is the id of, or the end of the id; None without one.

    Raises:
      UsageError: ``flag`` may mean several.
    """
    found = _named_places(name, utterances)
    if len(found) > 1:
        raise UsageError(
            f"{flag} {shown_value(name)} may be any of {len(found)} utterances, such as "
            f"{_listed([utterances[i].id for i in found])}; give one whole id."
        )
    return found[0] if found else None


def _named_places(name: str, utterances: Sequence[Utterance]) -> list[int]:
    """Places of the utterances that ``name`` is the id of, or else the end of the id."""
    ways: tuple[Callable[[Utterance], bool], ...] = (
        lambda each: each.id == name,
        lambda each: each.id.endswith(f"/{name}"),
        # Of a chunk the file that it was cut from.
        lambda each: f"/{each.whole}".endswith(f"/{name}"),
        lambda each: each.id.endswith(name),
    )
    for means in ways:
        found = [i for i, each in enumerate(utterances) if means(each)]
        if found:
            return found
    return []


def _not_there(name: str, config: AttackCommandConfig, speech: Speech) -> str:
    """Why nothing that is attacked has that name."""
    corpus = speech.prepared.corpus
    of_corpus = [corpus.utterances[i] for i in _named_places(name, corpus.utterances)]
    if not of_corpus:
        ids = [each.id for each in corpus.utterances]
        return (
            f"--show {shown_value(name)} is no utterance of {corpus.name}; "
            f"did you mean {_listed(_near(name, ids))}?"
        )
    first = of_corpus[0]
    if first.split == config.split:
        return (
            f"--show {first.id} is not among the {counted(len(speech.utterances), 'utterance')} "
            "attacked; give a larger --limit, or none."
        )
    where = "in no part" if first.split is None else f"in the {first.split} part"
    return (
        f"--show {first.id} is {where} of {corpus.name}, and the {config.split} part is attacked; "
        f"show one of that, such as {_listed([each.id for each in speech.utterances])}"
        + ("." if first.split is None else f", or attack --split {first.split}.")
    )


def _near(name: str, ids: Sequence[str]) -> list[str]:
    """Ids that are spelt alike, as a whole or in the file's name; any where none is."""
    ends = {each.rpartition("/")[2]: each for each in ids}
    close = difflib.get_close_matches(name, ids, n=_LISTED, cutoff=0.5)
    close += [ends[end] for end in difflib.get_close_matches(name, ends, n=_LISTED, cutoff=0.5)]
    return list(dict.fromkeys(close)) or list(ids)


def _listed(ids: Sequence[str]) -> str:
    *some, last = map(repr, ids[:_LISTED])
    return f"{', '.join(some)} or {last}" if some else last

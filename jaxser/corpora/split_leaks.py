"""What a result on a test part owes to training on the same speakers or the same speech.

for sentence in leaks_of(corpus, "random_80_20", parts): ...    # notes that travel into results
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from jaxser.corpora.table import UNKNOWN, Corpus, Split

__all__ = ["LEAK", "leaks_of"]

# How such a note begins.
LEAK = "leaky split: "


def leaks_of(corpus: Corpus, name: str, split: Mapping[str, Split]) -> Iterator[str]:
    """Sentences on what is on both sides of a split; none where nothing is.

    Args:
      corpus: the utterances.
      name: of the split.
      split: part of every utterance, by its id.
    """
    yield from _shared_files(corpus, name, split)
    speakers: dict[Split, set[str]] = defaultdict(set)
    for utterance in corpus.utterances:
        speakers[split[utterance.id]].add(utterance.speaker)
    if set().union(*speakers.values()) == {UNKNOWN}:
        yield f"{LEAK}{name} knows no speakers, so the same ones may be on both sides"
        return
    missing = sum(u.speaker == UNKNOWN for u in corpus.utterances)
    if missing:
        yield (
            f"{LEAK}{name} knows no speaker of {missing:,} utterances, so the same ones may be on "
            "both sides"
        )
    test = speakers["test"] - {UNKNOWN}
    shared = test & (speakers["train"] | speakers["val"])
    if shared:
        yield (
            f"{LEAK}{name} has {len(shared)} of {len(test)} test speakers "
            "in training too, so results are optimistic"
        )


def _shared_files(corpus: Corpus, name: str, split: Mapping[str, Split]) -> Iterator[str]:
    """On windows and chunks of one file in training and in the test part."""
    parts: dict[str, set[Split]] = defaultdict(set)
    for utterance in corpus.utterances:
        if utterance.source:
            parts[utterance.source].add(split[utterance.id])
    tested = [found for found in parts.values() if "test" in found]
    shared = sum(len(found) > 1 for found in tested)
    if shared:
        yield (
            f"{LEAK}{name} has other windows or chunks of {shared:,} of {len(tested):,} test files "
            "in training, so the same speech is on both sides"
        )

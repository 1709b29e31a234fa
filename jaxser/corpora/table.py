"""The table of utterances that a corpus is: nothing after it knows file names.

corpus = jaxser.corpora.load("emodb", "path/to/emodb")
corpus = jaxser.corpora.assign_split(corpus, "speaker", seed=0)
[u for u in corpus.utterances if u.split == "test"]
"""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

__all__ = [
    "UNKNOWN",
    "Corpus",
    "Gender",
    "Split",
    "Utterance",
    "file_of_id",
    "genders_of",
    "numeric_id",
]

# A speaker or gender that the corpus does not give; never a value to group by.
UNKNOWN: Literal["unknown"] = "unknown"

# Bytes of a file's name: file systems take 255, with suffixes and endings of temporary names.
_LONGEST_PART = 200

Gender = Literal["female", "male", "unknown"]
Split = Literal["train", "val", "test"]


@dataclasses.dataclass(frozen=True, slots=True)
class Utterance:
    """One recording.

    Attributes:
      id: unique in the corpus; the file's POSIX path under the corpus root without its suffix,
        unless the corpus gives another.
      path: the audio file.
      label: emotion, one of the corpus' labels.
      speaker: speaker name, unique in the corpus, or "unknown".
      gender: of the speaker.
      group: the session or other unit that a named split goes by, or "".
      split: "train", "val" or "test", or None where no split was assigned.
      source: id of the whole utterance that this is a chunk of, or "" for a whole one.
      variant: what was done to it ("pitch-3", "stretch0.9"), or "" for speech as it was recorded.
      further: what else a table of one's own says of it: (column, value) each.

    Examples:
      >>> from pathlib import Path
      >>> import jaxser
      >>> utterance = jaxser.corpora.Utterance("a1", Path("a1.wav"), "joy", speaker="anna")
      >>> utterance.gender, utterance.split, utterance.whole
      ('unknown', None, 'a1')
    """

    id: str
    path: Path
    label: str
    speaker: str
    gender: Gender = "unknown"
    group: str = ""
    split: Split | None = None
    source: str = ""
    variant: str = ""
    further: tuple[tuple[str, str], ...] = ()

    @property
    def whole(self) -> str:
        """Id of the whole utterance: the source of a chunk, or its own."""
        return self.source or self.id


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A named table of utterances.

    Attributes:
      name: registry name, as on the command line ("emodb").
      title: what tables and reports call it ("EmoDB", or "synthetic speech").
      language: of the speech ("German"), or "none".
      labels: class names in index order.
      root: folder the corpus was read from.
      utterances: sorted by id.
      synthetic: True where the speech was made from code; every output says so.
      notes: one-sentence remarks that travel into every result (leaky split, audio that is
        not the original ...).

    Examples:
      >>> import jaxser
      >>> corpus = jaxser.corpora.load("csv", "speech/table.csv")
      >>> corpus.title, corpus.label_index(corpus.utterances[1])
      ('table', 1)
    """

    name: str
    title: str
    language: str
    labels: tuple[str, ...]
    root: Path
    utterances: tuple[Utterance, ...]
    synthetic: bool = False
    notes: tuple[str, ...] = ()

    def label_index(self, utterance: Utterance) -> int:
        """Class index of an utterance."""
        return self.labels.index(utterance.label)


def genders_of(utterances: Iterable[Utterance]) -> dict[str, Gender]:
    """Gender of each speaker; where lines differ, the last one that gives it."""
    genders: dict[str, Gender] = {}
    for u in utterances:
        if u.gender != UNKNOWN or u.speaker not in genders:
            genders[u.speaker] = u.gender
    return genders


def file_of_id(utterance_id: str) -> PurePosixPath:
    """Where a file made for an utterance lies under a folder, without a suffix.

    The id itself where it is a path that stays in the folder, as most are. Others (absolute, with
    "..", with names too long for what is added to them) are given a path that does, with an ending
    that keeps two of them apart.
    """
    parts = utterance_id.split("/")
    if all(_is_plain(part) for part in parts):
        return PurePosixPath(utterance_id)
    kept = ["".join(c if c.isprintable() and c != "\\" else "_" for c in part) for part in parts]
    kept = [part[: _LONGEST_PART // 4] for part in kept if part.strip(".")] or ["id"]
    ending = hashlib.sha256(utterance_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return PurePosixPath(*kept[:-1], f"{kept[-1]}~{ending}")


def _is_plain(part: str) -> bool:
    return (
        part not in ("", ".", "..")
        and "\\" not in part
        and part.isprintable()
        and len(part.encode()) <= _LONGEST_PART
    )


def numeric_id(utterance_id: str) -> int:
    """A 32-bit number of an utterance id, for ``jax.random.fold_in``.

    It depends on the id alone, so an utterance keeps its randomness in any order, subset or
    batch of the corpus.
    """
    return int.from_bytes(hashlib.sha256(utterance_id.encode()).digest()[:4], "little")

"""One part of a corpus as arrays, ready to attack, in one call.

speech = load_split("emodb", "path/to/emodb", "test", victim=victim)
result = jaxser.run_attack(victim, speech.x, speech.y, PGD(), 0.005, ids=speech.ids)
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int

from jaxser.config import CorpusConfig, from_mapping
from jaxser.corpora.label_matching import match_labels
from jaxser.corpora.selection import select, split_rows, spread_rows
from jaxser.corpora.table import Split
from jaxser.runtime.errors import InputError, UsageError, nearest_name
from jaxser.runtime.text import counted

__all__ = ["Hearer", "LoadedSplit", "load_split"]


class Hearer(Protocol):
    """What speech has to suit: a :class:`jaxser.Victim`, as a rule."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def input_shape(self) -> tuple[int, ...]: ...
    @property
    def sample_rate(self) -> int: ...


class LoadedSplit(NamedTuple):
    """A part of a corpus, an entry per utterance; ``x, y, ids, *_`` unpacks what attacks need.

    Attributes:
      x: waveforms in [-1, 1].
      y: class indices, of the victim where one was given.
      ids: names that the corpus gives, which randomness depends on.
      speakers: names, or "unknown".
      genders: "female", "male" or "unknown".
      labels: class names, in index order.
      notes: remarks that results must carry (leaky split, synthetic speech, labels left out ...).

    Examples:
      >>> import jaxser
      >>> speech = jaxser.corpora.load_split(
      ...     "csv", "speech/table.csv", "test", split="given", seconds=0.25, sample_rate=8_000
      ... )
      >>> speech
      LoadedSplit(6 utterances of 2000 samples, 2 speakers, labels anger joy sadness)
      >>> x, y, ids, *_ = speech
    """

    x: Float[np.ndarray, "batch time"]
    y: Int[np.ndarray, " batch"]
    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    genders: tuple[str, ...]
    labels: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        rows, samples = self.x.shape
        return (
            f"LoadedSplit({rows} utterances of {samples} samples, {len(set(self.speakers))} "
            f"speakers, labels {' '.join(self.labels)})"
        )


def load_split(
    name: str,
    root: Path | str | None = None,
    part: Split = "test",
    *,
    victim: Hearer | None = None,
    labels: Sequence[str] = (),
    limit: int | None = None,
    split: str = "standard",
    **settings: Any,
) -> LoadedSplit:
    """One part of a corpus, decoded, in one length and at one rate.

    Args:
      name: of the corpus, one of :func:`jaxser.corpora.names`.
      root: its folder; None for synthetic speech, which is made where it is not there.
      part: "train", "val" or "test".
      victim: whose length, sample rate and classes the speech is to have. Utterances of labels
        that it does not know are left out, and a note says so.
      labels: with a victim: ``VICTIM=CORPUS``, such as "ang=anger", for labels that are not found
        by their names (see :mod:`jaxser.corpora.label_matching`).
      limit: at most so many utterances, spread over the part.
      split: how the corpus is split; see :func:`jaxser.corpora.assign_split`.
      **settings: other fields of a config's section ``corpus``: ``seconds`` and ``sample_rate``
        without a victim, ``split_seed``, ``skip_damaged``, ``cache_dir`` ...

    Raises:
      InputError: the corpus or its files are not as they should be, or nothing is left.
      UsageError: there is no such corpus, part, split or setting, a setting cannot have that
        value, or the victim reads no waveforms.

    Examples:
      >>> import jaxser
      >>> victim = jaxser.load_victim("runs/demo")
      >>> speech = jaxser.corpora.load_split(
      ...     "csv", "speech/table.csv", victim=victim, split="given"
      ... )
      >>> speech.x.shape, speech.labels == victim.labels
      ((6, 2000), True)
    """
    parts = ("train", "val", "test")
    if part not in parts:
        raise UsageError(f"there is no part {part!r} of a corpus; {nearest_name(str(part), parts)}")
    if victim is None and labels:
        raise UsageError("labels say which classes of a victim they are; give victim, too.")
    if victim is not None:
        settings |= _length_of(victim, settings)
    named = {"name": name, "root": root, "split": split, "limit": limit}
    config = from_mapping(CorpusConfig, {**settings, **named}, "load_split")
    # The limit of a config is on the corpus, this one on the part.
    prepared = select(dataclasses.replace(config, limit=None))
    corpus = prepared.corpus
    matching = match_labels(
        corpus.labels if victim is None else victim.labels, corpus.labels, labels
    )
    of_part = split_rows(corpus, part)
    rows = np.array(
        [i for i in of_part if corpus.utterances[i].label in matching.classes], np.int64
    )
    if not len(rows):
        why = "none" if not len(of_part) else f"none of {', '.join(matching.known)}"
        raise InputError(f"the {part} part of {corpus.title} has no utterance, or {why}.")
    notes = list(corpus.notes)
    if len(rows) < len(of_part):
        notes.append(
            f"{counted(len(of_part) - len(rows), 'utterance')} left out, of labels that the "
            f"victim does not know: {', '.join(matching.strange)}"
        )
    rows = rows[spread_rows(len(rows), config.limit)]
    chosen = [corpus.utterances[i] for i in rows]
    return LoadedSplit(
        x=np.asarray(prepared.waveforms[rows], np.float32),
        y=np.array([matching.classes[u.label] for u in chosen], np.int32),
        ids=tuple(u.id for u in chosen),
        speakers=tuple(u.speaker for u in chosen),
        genders=tuple(u.gender for u in chosen),
        labels=matching.known,
        notes=tuple(notes),
    )


def _length_of(victim: Hearer, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that make speech what the victim reads."""
    if len(victim.input_shape) != 1:
        raise UsageError(
            f"{victim.name} reads {list(victim.input_shape)}, and speech is a waveform; give the "
            "victim in the domain waveform."
        )
    for name in ("seconds", "sample_rate"):
        if name in settings:
            raise UsageError(f"{name} is the victim's; leave it out.")
    rate = victim.sample_rate
    return {"sample_rate": rate, "seconds": victim.input_shape[0] / rate}

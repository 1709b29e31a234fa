"""From a config's corpus section to prepared, split speech.

prepared = select(config.corpus)
rows = split_rows(prepared.corpus, "test")
prepared.waveforms[rows], label_indices(prepared.corpus)[rows]
"""

import dataclasses
from collections import defaultdict
from typing import get_args

import numpy as np
from jaxtyping import Int

from jaxser.config import CorpusConfig
from jaxser.corpora import AudioSettings, Prepared, assign_split, load, prepare, synthetic
from jaxser.corpora.chunks import Chunking
from jaxser.corpora.splits import warn_once
from jaxser.corpora.table import Corpus, Split
from jaxser.corpora.windows import Windowing
from jaxser.runtime.errors import UsageError
from jaxser.runtime.files import cache_folder

__all__ = [
    "chunking",
    "label_indices",
    "parts_text",
    "prepared_speech",
    "select",
    "split_rows",
    "spread_rows",
    "with_parts",
]


def select(config: CorpusConfig) -> Prepared:
    """Read the table, prepare the audio (or find it in the cache), and assign the split.

    Raises:
      UsageError: a corpus other than synthetic without a root.
      InputError: whatever is wrong with the folder, the files or the split.
    """
    prepared = prepared_speech(config)
    return dataclasses.replace(prepared, corpus=with_parts(prepared.corpus, config))


def prepared_speech(config: CorpusConfig) -> Prepared:
    """The same without a split.

    Raises:
      UsageError, InputError: see :func:`select`.
    """
    root = config.root
    if root is None:
        if config.name != "synthetic":
            raise UsageError(
                f"corpus.root is missing: say where {config.name} lies, --corpus.root FOLDER."
            )
        root = cache_folder() / f"synthetic-{synthetic.VERSION}"
    settings = AudioSettings(
        sample_rate=config.sample_rate,
        seconds=config.seconds,
        channel=config.channel,
        shortest=config.shortest,
        chunking=chunking(config.chunks, config.augment),
        windowing=Windowing(config.stride_ms) if config.windows else None,
    )
    return prepare(
        _limited(load(config.name, root, labels=config.labels or None), config.limit),
        settings,
        cache_dir=config.cache_dir,
        skip_damaged=config.skip_damaged,
    )


def chunking(chunks: bool, augment: bool) -> Chunking | None:
    """How utterances are cut; UsageError for versions of chunks without chunks."""
    if augment and not chunks:
        raise UsageError("corpus.augment adds versions of chunks; set corpus.chunks too.")
    return Chunking(augment=augment) if chunks else None


def with_parts(corpus: Corpus, config: CorpusConfig) -> Corpus:
    """The corpus with the split and the protocol of ``config``, and a note on what leaks.

    Raises:
      UsageError, InputError: the corpus cannot be split so; see :func:`assign_split`.
    """
    paper = config.protocol == "paper"
    corpus = assign_split(
        corpus,
        "random_64_16_20" if paper and config.split in ("standard", "speaker") else config.split,
        seed=config.split_seed,
        fold=config.fold,
        folds=config.folds,
        file=config.split_file,
    )
    return _with_leaks_noted(corpus) if paper else _augmented_in_training_alone(corpus)


def parts_text(corpus: Corpus) -> str:
    """How many waveforms each part has, and how many of them are augmented versions."""
    told = []
    for part in get_args(Split):
        its = [utterance for utterance in corpus.utterances if utterance.split == part]
        augmented = sum(bool(utterance.variant) for utterance in its)
        told.append(f"{part} {len(its):,}" + (f" ({augmented:,} augmented)" if augmented else ""))
    return ", ".join(told)


def _augmented_in_training_alone(corpus: Corpus) -> Corpus:
    """Augmented speech of the other parts belongs to no part."""
    utterances = tuple(
        dataclasses.replace(u, split=None) if u.variant and u.split != "train" else u
        for u in corpus.utterances
    )
    return dataclasses.replace(corpus, utterances=utterances)


def _with_leaks_noted(corpus: Corpus) -> Corpus:
    """Say what the published protocol leaks, beside what the split does."""
    leaks = ["feature statistics are fitted on all parts"]
    parts: dict[str, set[Split | None]] = defaultdict(set)
    for u in corpus.utterances:
        if u.source:
            parts[u.source].add(u.split)
    shared = sum(len(each) > 1 for each in parts.values())
    if shared:
        leaks.append(
            f"{shared:,} of {len(parts):,} utterances have chunks or augmented versions in "
            "training and in another part"
        )
    note = f"leaky protocol: {'; '.join(leaks)}; results are optimistic"
    warn_once(f"{corpus.title}: {note}.")
    return dataclasses.replace(corpus, notes=(*corpus.notes, note))


def _limited(corpus: Corpus, limit: int | None) -> Corpus:
    """At most so many utterances, as many of every class and speaker as their share allows."""
    if limit is None or limit >= len(corpus.utterances):
        return corpus
    order = sorted(corpus.utterances, key=lambda u: (u.label, u.speaker, u.id))
    kept = {order[i].id for i in spread_rows(len(order), limit)}
    return dataclasses.replace(
        corpus,
        utterances=tuple(u for u in corpus.utterances if u.id in kept),
        notes=(*corpus.notes, f"{limit:,} of {len(corpus.utterances):,} utterances, as asked for"),
    )


def spread_rows(count: int, limit: int | None) -> Int[np.ndarray, " rows"]:
    """Places of at most ``limit`` of ``count`` things, spread evenly."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).round().astype(int)


def split_rows(corpus: Corpus, split: Split) -> Int[np.ndarray, " rows"]:
    """Positions of a split's utterances in the table."""
    return np.array([i for i, u in enumerate(corpus.utterances) if u.split == split], np.int64)


def label_indices(corpus: Corpus) -> Int[np.ndarray, " utterances"]:
    """Class index of every utterance of the table."""
    index = {label: i for i, label in enumerate(corpus.labels)}
    return np.array([index[u.label] for u in corpus.utterances], np.int32)

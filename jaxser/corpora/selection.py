"""From a config's corpus section to prepared, split speech.

prepared = select(config.corpus)
rows = split_rows(prepared.corpus, "test")
prepared.waveforms[rows], label_indices(prepared.corpus)[rows]
"""

import dataclasses

import numpy as np
from jaxtyping import Int

from jaxser.config import CorpusConfig
from jaxser.corpora import AudioSettings, Prepared, assign_split, load, prepare, synthetic
from jaxser.corpora.table import Corpus, Split
from jaxser.errors import UsageError
from jaxser.files import cache_folder

__all__ = ["label_indices", "select", "split_rows"]


def select(config: CorpusConfig) -> Prepared:
    """Read the table, prepare the audio (or find it in the cache), and assign the split.

    Raises:
      UsageError: a corpus other than synthetic without a root.
      InputError: whatever is wrong with the folder, the files or the split.
    """
    root = config.root
    if root is None:
        if config.name != "synthetic":
            raise UsageError(
                f"corpus.root is missing: say where {config.name} lies, --corpus.root FOLDER."
            )
        root = cache_folder() / f"synthetic-{synthetic.VERSION}"
    settings = AudioSettings(
        sample_rate=config.sample_rate, seconds=config.seconds, channel=config.channel
    )
    prepared = prepare(
        load(config.name, root),
        settings,
        cache_dir=config.cache_dir,
        skip_damaged=config.skip_damaged,
    )
    corpus = assign_split(
        prepared.corpus,
        config.split,
        seed=config.split_seed,
        fold=config.fold,
        folds=config.folds,
        file=config.split_file,
    )
    return dataclasses.replace(prepared, corpus=corpus)


def split_rows(corpus: Corpus, split: Split) -> Int[np.ndarray, " rows"]:
    """Positions of a split's utterances in the table."""
    return np.array([i for i, u in enumerate(corpus.utterances) if u.split == split], np.int64)


def label_indices(corpus: Corpus) -> Int[np.ndarray, " utterances"]:
    """Class index of every utterance of the table."""
    index = {label: i for i, label in enumerate(corpus.labels)}
    return np.array([index[u.label] for u in corpus.utterances], np.int32)

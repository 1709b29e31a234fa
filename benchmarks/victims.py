"""The trained victims that benchmarks attack, with the utterances to attack them on."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from jaxser.runtime.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from jaxser.victims.victim import Victim

__all__ = ["add_victim", "load_victim_and_features", "load_victim_and_speech"]


def add_victim(parser: argparse.ArgumentParser, default: str) -> None:
    """The flags for the run folder of the victim and for the corpus."""
    parser.add_argument("--victim", type=Path, default=Path(default), metavar="RUN")
    parser.add_argument("--root", type=Path, help="folder of the corpus, where it has moved")


def load_victim_and_speech(
    folder: Path, root: Path | None, seconds: float, rows: int
) -> tuple["Victim", "np.ndarray"]:
    """The victim at this length, and utterances of the test part, spread over it.

    Where the test part is smaller than that, utterances of the others come after it.
    """
    import numpy as np

    from jaxser.corpora.selection import select, split_rows
    from jaxser.victims.loading import load_victim
    from jaxser.victims.run_folder import read_run

    config, _ = read_run(folder)
    corpus = dataclasses.replace(config.corpus, seconds=seconds)
    if root is not None:
        corpus = dataclasses.replace(corpus, root=root)
    prepared = select(corpus)
    test = split_rows(prepared.corpus, "test")
    others = np.setdiff1d(np.arange(len(prepared.waveforms)), test)
    if len(test) + len(others) < rows:
        raise InputError(f"the corpus has {len(test) + len(others)} utterances, --rows is {rows}.")
    spread = np.linspace(0, len(test) - 1, min(rows, len(test))).round().astype(int)
    chosen = np.concatenate([test[spread], others[: rows - len(spread)]])
    x = np.asarray(prepared.waveforms[chosen], np.float32)
    return dataclasses.replace(load_victim(folder), input_shape=(x.shape[1],)), x


def load_victim_and_features(
    folder: Path, root: Path | None, rows: int
) -> tuple["Victim", "np.ndarray", "np.ndarray"]:
    """The victim of features, features spread over the test part, and their classes."""
    from jaxser.config import AttackCommandConfig, AttackedCorpusConfig
    from jaxser.experiments.speech import load_speech

    corpus = AttackedCorpusConfig(root=root)
    speech = load_speech(
        AttackCommandConfig(victim=folder, domain="features", limit=rows, corpus=corpus)
    )
    if speech.victim.bounds is None:
        raise UsageError(f"{folder} was trained without features.bounds, which ART needs.")
    return speech.victim, speech.inputs, speech.labels

"""Models of Hugging Face as victims of the commands: which speech, which labels, which folder.

corpus, labels = in_classes(prepared, config, victim)        # -1 where the victim has no such class
config = corpus_of(config, victim)                           # its section ``corpus``

A run folder says what its victim hears. A published model says its sample rate and the names of its
classes; corpus, length and what the classes are called there must be given, or found by name.
"""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Int

from jaxser.config import AttackCommandConfig, CorpusConfig, TrainConfig
from jaxser.config.training import ModelConfig
from jaxser.corpora import Prepared
from jaxser.corpora.label_matching import match_labels
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.text import counted
from jaxser.victims.loading import is_hub_name, is_pretrained
from jaxser.victims.run_folder import read_run
from jaxser.victims.victim import Victim

__all__ = ["corpus_of", "home_of", "in_classes", "in_length", "training_of"]


def home_of(victim: Path) -> Path:
    """Where what is made of a victim lies: in its folder; of a name on the hub under ``runs``."""
    return Path("runs") / victim.name if is_hub_name(victim) else victim


def in_length(victim: Victim, config: AttackCommandConfig) -> Victim:
    """A pretrained victim of waveforms as long as ``config.corpus.seconds`` says.

    Raises:
      UsageError: a victim of a training run, whose config says it; less than the network needs.
    """
    seconds = config.corpus.seconds
    if seconds is None:
        return victim
    if not is_pretrained(config.victim):
        raise UsageError(
            f"the run {config.victim} says how long its speech is; leave the seconds out."
        )
    samples = round(seconds * victim.sample_rate)
    if samples < victim.shortest_input:
        raise UsageError(
            f"{config.victim} needs at least {victim.shortest_input / victim.sample_rate:g} s of "
            f"speech; give more seconds than {seconds:g}."
        )
    return dataclasses.replace(victim, input_shape=(samples,))


def corpus_of(config: AttackCommandConfig, victim: Victim) -> CorpusConfig:
    """The speech that a pretrained victim is given, at its rate and in its length.

    Raises:
      UsageError: nobody says which.
    """
    name = config.corpus.name
    if name is None:
        raise UsageError(
            f"{config.victim} is a model of Hugging Face, which says nothing of its speech; give "
            "--corpus.name and --corpus.root."
        )
    rate = victim.sample_rate
    return CorpusConfig(name=name, sample_rate=rate, seconds=victim.input_shape[0] / rate)


def training_of(config: AttackCommandConfig, victim: Victim) -> TrainConfig:
    """The config of a training run; of a pretrained model what stands for it in tables."""
    if not is_pretrained(config.victim):
        return read_run(config.victim)[0]
    return TrainConfig(model=ModelConfig(name=victim.name), corpus=corpus_of(config, victim))


def in_classes(
    prepared: Prepared, config: AttackCommandConfig, victim: Victim
) -> tuple[Prepared, Int[np.ndarray, " utterances"]]:
    """The victim's class index of every utterance, and the corpus with notes of what was done.

    Labels of another name are matched as :func:`jaxser.corpora.label_matching.match_labels` does
    where the victim is pretrained or ``config.labels`` are given, and utterances of labels that it
    does not know have the index -1. A victim of a training run must know all without that.

    Raises:
      InputError: a victim of a run does not know a label, or one of a model knows none.
      UsageError: ``config.labels`` that name none.
    """
    corpus, known = prepared.corpus, victim.labels
    if not is_pretrained(config.victim) and not config.labels:
        strange = sorted(set(corpus.labels) - set(known))
        if strange:
            raise InputError(
                f"{corpus.name} has labels that the victim in {config.victim} was not trained on: "
                f"{', '.join(strange)} (it knows {', '.join(known)}); attack the victim's own "
                "corpus, or say which are which, --labels VICTIM=CORPUS."
            )
        return prepared, np.array([known.index(u.label) for u in corpus.utterances], np.int32)
    found = match_labels(known, corpus.labels, config.labels)
    if not found.classes:
        raise InputError(
            f"none of the labels of {corpus.name} ({', '.join(corpus.labels)}) is one of the "
            f"victim in {config.victim} ({', '.join(known)}); say which are which, --labels "
            "VICTIM=CORPUS."
        )
    labels = np.array([found.classes.get(u.label, -1) for u in corpus.utterances], np.int32)
    notes = list(corpus.notes)
    if found.told():
        notes.append(f"the victim's labels and those of {corpus.title}: {found.told()}")
    if found.strange:
        notes.append(
            f"left out, as the victim has no such label: {', '.join(found.strange)} "
            f"({counted(int((labels < 0).sum()), 'utterance')} of {corpus.title})"
        )
    unused = [name for i, name in enumerate(known) if i not in found.classes.values()]
    if unused:
        notes.append(f"labels of the victim that {corpus.title} has not: {', '.join(unused)}")
    noted = dataclasses.replace(corpus, notes=tuple(notes))
    return dataclasses.replace(prepared, corpus=noted), labels

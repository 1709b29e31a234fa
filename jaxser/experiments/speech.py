"""Loading what is attacked: the victim, and the speech that it has not been trained on.

speech = load_speech(config)                # several attacks on the same speech
runs = [prepare_run(each, speech) for each in configs]
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.config import AttackCommandConfig, CorpusConfig
from jaxser.corpora import Corpus, Prepared
from jaxser.corpora.selection import select, split_rows, spread_rows
from jaxser.driver.run import clean_pass
from jaxser.driver.speech import Speech
from jaxser.driver.work import CleanPass
from jaxser.experiments.images import Images
from jaxser.experiments.pretrained import corpus_of, in_classes, in_length
from jaxser.models.front_end import RowBatches
from jaxser.runtime.errors import InputError, UsageError, nearest_name
from jaxser.runtime.provenance import fingerprint_of
from jaxser.runtime.sharding import WHOLE, Share
from jaxser.runtime.stages import stage
from jaxser.victims.loading import is_pretrained, load_victim
from jaxser.victims.probabilities import probabilities_fingerprint, with_probabilities
from jaxser.victims.run_folder import read_run
from jaxser.victims.smoothing import smoothed, smoothed_fingerprint
from jaxser.victims.victim import Victim

__all__ = ["Part", "check_victim_folder", "load_speech", "part_of", "target_of", "victim_of"]

_log = logging.getLogger(__name__)


def victim_of(config: AttackCommandConfig) -> Victim:
    """The victim of ``config`` in the domain that is attacked, with the output that is asked for.

    It is smoothed where that is asked for.

    Raises:
      InputError: there is no run in its folder.
      UsageError: the victim has no such domain.
    """
    stage("loading the victim")
    check_victim_folder(config.victim)
    victim = in_length(load_victim(config.victim, config.domain), config)
    if config.smoothing is not None:
        victim = smoothed(victim, config.smoothing, config.smoothing_samples)
    return victim if config.output == "logits" else with_probabilities(victim)


def _fingerprint(config: AttackCommandConfig, victim: Victim) -> str:
    """Of the variables, of the noise that they are smoothed by, and of what comes out."""
    own = fingerprint_of(victim.variables)
    if config.smoothing is not None:
        own = smoothed_fingerprint(own, config.smoothing, config.smoothing_samples)
    return own if config.output == "logits" else probabilities_fingerprint(own)


def check_victim_folder(folder: Path) -> None:
    """Refuse what is no victim: a mistyped run folder must not be looked for on the hub.

    Raises:
      InputError: neither a run nor a model of Hugging Face; see the message.
    """
    if not is_pretrained(folder):
        read_run(folder)


def load_speech(
    config: AttackCommandConfig,
    share: Share = WHOLE,
    victim: Victim | None = None,
    part: "Part | None" = None,
) -> Speech:
    """The victim of ``config`` and the utterances to attack it on.

    Args:
      config: what to attack.
      share: of the utterances, after ``config.limit``; there may be none in it.
      victim: of ``config``, where it is loaded already.
      part: of :func:`part_of` with the same, where it is known already.

    Raises:
      UsageError, InputError: see the message.
    """
    victim = victim_of(config) if victim is None else in_length(victim, config)
    stage("preparing the speech")
    part = part_of(config, victim) if part is None else part
    prepared, labels = part.prepared, part.labels
    corpus = prepared.corpus
    if part.own and part.before and config.corpus.root is None:
        _say_changed(config.victim, corpus, part.before, prepared.fingerprint)
    positions = part.positions[share.rows(len(part.positions))]
    inputs: Any = prepared.waveforms
    places = positions
    if config.domain == "features":
        inputs, places = _features(victim, prepared.waveforms, positions), np.arange(len(positions))
    elif config.domain != "waveform":
        inputs = Images(victim, prepared.waveforms)
    stage("clean pass")
    return Speech(
        victim=victim,
        fingerprint=_fingerprint(config, victim),
        scheme=part.scheme,
        prepared=prepared,
        positions=positions,
        inputs=inputs,
        places=places,
        labels=labels[positions],
        clean=clean_pass(
            victim,
            inputs,
            subset=places,
            seed=config.seed,
            ids=[corpus.utterances[i].id for i in positions],
            batch_size=config.batch_size,
        )
        if len(positions)
        else CleanPass(
            np.zeros(0, np.int32),
            np.zeros(0, np.uint32),
            np.zeros((0, len(victim.labels)), np.float32),
        ),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """What is attacked of a corpus.

    Attributes:
      prepared: the corpus.
      scheme: how it is split.
      labels: the victim's class index of every utterance.
      positions: of the utterances to attack.
      own: whether it is what the victim was trained on.
      before: fingerprint of that, then; "" where it is not known.
    """

    prepared: Prepared
    scheme: tuple[str, int, int]
    labels: np.ndarray
    positions: np.ndarray
    own: bool
    before: str


def part_of(config: AttackCommandConfig, victim: Victim) -> Part:
    """What :func:`load_speech` takes of all shares; the victim looks at none of it.

    Args:
      config: what to attack.
      victim: of ``config``.

    Raises:
      UsageError, InputError: see the message.
    """
    trained, before = _trained_on(config, victim)
    corpus_config = _attacked_corpus(trained, config)
    own = corpus_config.name == trained.name
    if config.domain == "features" and not own:
        raise UsageError(
            f"the features of {victim.name} in {config.victim} are standardised with statistics of "
            f"{trained.name}, so those of {corpus_config.name} are of another scale; attack "
            "its own corpus, or the waveforms."
        )
    prepared, labels = in_classes(select(corpus_config), config, victim)
    corpus = prepared.corpus
    positions = split_rows(corpus, config.split)
    positions = positions[labels[positions] >= 0]
    target = target_of(config, victim.labels)
    if target is not None:
        positions = positions[labels[positions] != target]
    if len(positions) == 0:
        raise InputError(
            f"{corpus.name} has no utterance to attack in its {config.split} part; give another "
            "--split."
        )
    if config.by == "gender" and all(u.gender == "unknown" for u in corpus.utterances):
        raise UsageError(
            f"{corpus.name} does not say its speakers' gender, so there is no table by gender; "
            "leave --by out."
        )
    positions = positions[spread_rows(len(positions), config.limit)]
    return Part(
        prepared=prepared,
        scheme=(corpus_config.split, corpus_config.split_seed, corpus_config.fold),
        labels=labels,
        positions=positions,
        own=own,
        before=before,
    )


def _trained_on(config: AttackCommandConfig, victim: Victim) -> tuple[CorpusConfig, str]:
    """What a victim was trained on, and its fingerprint; of a pretrained one what it hears."""
    if not is_pretrained(config.victim):
        trained, facts = read_run(config.victim)
        return trained.corpus, facts["corpus"].get("fingerprint", "")
    return corpus_of(config, victim), ""


def target_of(config: AttackCommandConfig, known: Sequence[str]) -> int | None:
    """Class index that ``--target`` names among the victim's labels; None without a target.

    Raises:
      UsageError: the victim knows no such label.
    """
    if config.target is None:
        return None
    if config.target not in known:
        raise UsageError(
            f"there is no label {config.target!r} to reach; {nearest_name(config.target, known)}"
        )
    return known.index(config.target)


def _attacked_corpus(trained: CorpusConfig, config: AttackCommandConfig) -> CorpusConfig:
    """The victim's own corpus section, with what the command says otherwise."""
    asked = config.corpus
    changes: dict[str, Any] = {"skip_damaged": asked.skip_damaged or trained.skip_damaged}
    if asked.name is not None and asked.name != trained.name:
        changes |= {"root": None, "split": "standard", "split_file": None}
    for name in ("name", "root", "split", "split_file", "cache_dir"):
        if getattr(asked, name) is not None:
            changes[name] = getattr(asked, name)
    return dataclasses.replace(trained, **changes)


def _say_changed(victim: Path, corpus: Corpus, before: str, now: str) -> None:
    """The victim's own speech has other files, or others in them, than when it was trained."""
    if before != now:
        _log.warning(
            "the speech of %s at %s has changed since the victim in %s was trained on it (%s now, "
            "%s then): what it was trained on may be among what is attacked.",
            corpus.name,
            corpus.root,
            victim,
            now[:8],
            before[:8],
        )


def _features(victim: Victim, waveforms: Any, positions: np.ndarray) -> np.ndarray:
    """What a spectrogram victim reads of some utterances."""
    import jax

    assert victim.front_end is not None
    features = jax.jit(victim.front_end.features)
    batches = RowBatches(waveforms, positions)
    return np.concatenate([np.asarray(features(victim.variables, x)) for x in batches])

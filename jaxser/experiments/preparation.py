"""From what was asked for to a run: all checks, and what names its folder and its rows.

run = prepare_run(AttackCommandConfig(victim=Path("runs/emo18_emodb"), attack="pgd"))
attack_missing_rows(run)
"""

import dataclasses
import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.attacks import StaaNet, parameters
from jaxser.attacks.generator import Generator
from jaxser.attacks.projections import Bounds
from jaxser.config import AttackCommandConfig
from jaxser.config.suites import scaled_epsilons
from jaxser.corpora.selection import spread_rows
from jaxser.driver.budgets import check_budgets
from jaxser.driver.named_attack import attack_and_bounds
from jaxser.driver.sequence import AttackSequence, members
from jaxser.driver.speech import Speech
from jaxser.experiments.generator import check_generator, generator_notes
from jaxser.experiments.pretrained import home_of
from jaxser.experiments.run import Listener, Run
from jaxser.experiments.shown import shown_places
from jaxser.experiments.speech import Part, load_speech, target_of, victim_of
from jaxser.results.reading import read_rows
from jaxser.results.schema import LATER, OF_TRAINING, SCHEMA, parameters_hash
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.provenance import device_name
from jaxser.victims.victim import Victim

__all__ = ["prepare_run"]

_DEFAULT_EPSILONS = (0.005, 0.01)
_NO_LIMIT = (float("inf"),)


def prepare_run(
    config: AttackCommandConfig,
    speech: Speech | None = None,
    folder: Path | None = None,
    listeners: Sequence[Listener] = (),
    loaded: tuple[Victim, Part] | None = None,
) -> Run:
    """Check what ``config`` asks for, and load the victim and the speech.

    Args:
      config: what to attack, and how.
      speech: of :func:`load_speech` with the same victim, part, target and domain, and with the
        same limit or none; not loaded again.
      folder: that gets a folder of rows for every run; that of the victim by default.
      listeners: other victims that every row is repeated for; they have heard ``speech``.
      loaded: the victim and the part of its speech, in place of ``speech``; not loaded again.

    Raises:
      UsageError, InputError: see the message.
    """
    given = speech.victim if speech is not None else loaded[0] if loaded is not None else None
    # A mistyped attack is found before a victim is loaded; a file of weights needs one, though.
    heard = functools.cache(lambda: victim_of(config) if given is None else given)
    attack, bounded = attack_and_bounds(config, heard)
    victim = heard()
    generator = attack.generator if isinstance(attack, StaaNet) else None
    if generator is not None:
        check_generator(generator, victim, config)
    if not bounded:
        attack = dataclasses.replace(attack, bounds=victim.bounds)
    parts = members(attack, len(victim.labels))
    epsilons = _epsilons(config, all(part.minimal_norm for part in parts), generator)
    if config.suite is not None:
        epsilons = scaled_epsilons(config.suite, epsilons, victim.bounds)
    norm = check_budgets(attack, epsilons, config.epsilon_unit, len(victim.labels))
    if speech is None:
        speech = load_speech(config, victim=victim, part=loaded[1] if loaded else None)
    else:
        rows = spread_rows(len(speech.positions), config.limit)
        listeners = [dataclasses.replace(each, clean=each.clean[rows]) for each in listeners]
        speech = speech.spread(config.limit)
    _check_heard(config)
    shown = shown_places(config, speech)
    values = parameters(attack)
    facts = {
        **_facts(config, speech, attack.name, values, norm),
        "amplitude": values.get("amplitude") or math.nan,
        "notes": [
            *speech.notes,
            *_notes_on_bounds(config, speech, attack.bounds),
            *_notes_on_epsilon(config, epsilons, norm, attack.bounds),
            *generator_notes(generator, config, epsilons),
        ],
    }
    identity = _identity(config, speech, attack.name, values, listeners)
    default = folder or home_of(config.victim) / "attacks"
    default /= f"{attack.name}-{parameters_hash(identity)}"
    return Run(
        config=config,
        speech=speech,
        attack=attack,
        epsilons=epsilons,
        members=_distinct([part.name for part in parts])
        if isinstance(attack, AttackSequence)
        else (),
        attacked=_attacked_labels(config, speech),
        shown=shown,
        listeners=tuple(listeners),
        facts=facts,
        out=_checked_out(config.out, default, facts),
    )


def _identity(
    config: AttackCommandConfig,
    speech: Speech,
    attack: str,
    values: Mapping[str, Any],
    listeners: Sequence[Listener],
) -> dict[str, Any]:
    """What tells rows apart that must not share a folder; ε and the limit may grow in one."""
    identity = {
        "attack": attack,
        "parameters": values,
        "seed": config.seed,
        "y": config.y,
        "target": config.target,
        "split": config.split,
        "domain": config.domain,
        "scheme": list(speech.scheme),
        "victim": speech.fingerprint,
        "corpus": speech.prepared.fingerprint,
        "columns": [name for name in SCHEMA.names if name not in LATER],
    }
    # Only where they are asked for, so that other runs find the folders that they had before.
    if config.stoi:
        identity["stoi"] = True
    if config.suite is not None:
        identity["suite"] = config.suite
    if config.labels:
        identity["labels"] = list(config.labels)
    if config.draws != AttackCommandConfig.draws:
        identity["draws"] = config.draws
    if listeners:
        identity["listeners"] = [listener.fingerprint for listener in listeners]
    return identity


def _facts(
    config: AttackCommandConfig, speech: Speech, attack: str, values: Mapping[str, Any], norm: str
) -> dict[str, Any]:
    """Columns that config, victim and corpus say, the same in all rows."""
    corpus = speech.prepared.corpus
    victim = f"{speech.victim.name} {config.victim}"
    return {
        "victim": victim,
        "victim_fingerprint": speech.fingerprint,
        "threat": victim,
        "corpus": corpus.title,
        "language": corpus.language,
        "synthetic": corpus.synthetic,
        "split": config.split,
        **speech.victim.training.columns(),
        "smoothing": math.nan if config.smoothing is None else config.smoothing,
        "smoothing_samples": None if config.smoothing is None else config.smoothing_samples,
        "domain": config.domain,
        "output": config.output,
        "label_source": "target" if config.target is not None else config.y,
        "targeted": config.target is not None,
        "attack": attack,
        "parameters": json.dumps(values),
        "parameters_hash": parameters_hash(values),
        "suite": config.suite,
        "epsilon_unit": config.epsilon_unit,
        "epsilon_norm": norm,
        "seed": config.seed,
        "device": device_name(),
    }


def _notes_on_bounds(config: AttackCommandConfig, speech: Speech, bounds: Bounds) -> Iterator[str]:
    """That features lie where an attack may not put them: it pulls them in, which is a change."""
    if config.domain != "features" or bounds is None or not len(speech.places):
        return
    features = speech.inputs[speech.places].reshape(len(speech.places), -1)
    least, most = features.min(axis=1), features.max(axis=1)
    outside = int(((least < bounds[0]) | (most > bounds[1])).sum())
    if outside:
        yield (
            f"{outside} of {len(features)} utterances have features outside the attack's bounds "
            f"({bounds[0]:g}, {bounds[1]:g}), from {least.min():.4g} to {most.max():.4g}: attacks "
            "pull them in, whatever ε is; widen features.bounds, or --params bounds"
        )


def _notes_on_epsilon(
    config: AttackCommandConfig, epsilons: Sequence[float], norm: str, bounds: Bounds
) -> Iterator[str]:
    """That an ε limits nothing: no value can move so far; inf is how a user asks for that."""
    if norm != "linf" or config.epsilon_unit != "amplitude" or bounds is None:
        return
    width = bounds[1] - bounds[0]
    wide = [f"{epsilon:g}" for epsilon in epsilons if width < epsilon < math.inf]
    if wide:
        yield (
            f"epsilon {', '.join(wide)} limits nothing: values are from {bounds[0]:g} to "
            f"{bounds[1]:g}, and none can change by more than {width:g}"
        )


def _check_heard(config: AttackCommandConfig) -> None:
    """Refuse to listen to what is no speech."""
    heard = [("--show", config.show), ("--stoi", config.stoi)]
    if config.domain != "features":  # which librosa's inverse turns into speech
        heard.append(("--save_wav", config.save_wav))
    for name, asked in heard:
        if asked and config.domain != "waveform":
            raise UsageError(f"{name} is of speech; leave it out with --domain {config.domain}.")


def _attacked_labels(config: AttackCommandConfig, speech: Speech) -> np.ndarray:
    """Class indices to leave, or to reach."""
    target = target_of(config, speech.victim.labels)
    if target is not None:
        return np.full(len(speech.positions), target, np.int32)
    attacked = speech.labels if config.y == "truth" else speech.clean.prediction
    if (attacked < 0).any():
        name = speech.utterances[int((attacked < 0).argmax())].id
        raise InputError(
            f"the victim's logits for {name} are not finite, so there is no prediction to attack; "
            "use --y truth or leave the file out."
        )
    return attacked


def _epsilons(
    config: AttackCommandConfig, unlimited: bool, generator: Generator | None
) -> tuple[float, ...]:
    """The budgets, or what they are without any given."""
    if config.epsilon:
        if len(set(config.epsilon)) < len(config.epsilon):
            raise UsageError("the same epsilon is given twice; give each once.")
        return config.epsilon
    if config.epsilon_unit != "amplitude":
        raise UsageError(
            f"--epsilon_unit {config.epsilon_unit} needs an --epsilon in dB, such as 30."
        )
    if generator is not None and not math.isnan(generator.epsilon[0]):
        return tuple(sorted(set(generator.epsilon)))
    if generator is not None:
        raise UsageError(
            f"{generator.name} does not say which ε its generator was trained for; give --epsilon "
            "(the paper's are 0.05 on DEMoS and 0.01 on IEMOCAP)."
        )
    return _NO_LIMIT if unlimited else _DEFAULT_EPSILONS


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names of a composite attack's members, numbered where one comes twice."""
    return tuple(
        name if names.count(name) == 1 else f"{name} {names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    )


def _checked_out(asked: Path | None, default: Path, facts: Mapping[str, Any]) -> Path:
    """The folder of the rows; rows of another run that lie there are refused."""
    if asked is None:
        return default
    if asked.exists() and not asked.is_dir():
        raise UsageError(f"{asked} is a file; give another --out.")
    # Smoothed victims and those with probabilities have another fingerprint, an amplitude is a
    # parameter too, and older rows have nothing else.
    passed_over = {"device", "victim", "threat", "notes", "epsilon_unit"}
    passed_over |= {"smoothing", "smoothing_samples", "amplitude", "output", *OF_TRAINING}
    if any(asked.glob("rows-*.parquet")):
        first = read_rows(asked).slice(0, 1).to_pylist()[0]
        for name in facts:
            if name not in passed_over and first[name] != facts[name]:
                raise UsageError(
                    f"{asked} holds rows with {name} {first[name]}, not {facts[name]}; give "
                    "another --out."
                )
    return asked

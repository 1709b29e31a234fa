"""What attacks made against threat models, scored on other victims.

lines = transfer_lines(table, {"STAA-Net": [Path("runs/staa_net_emodb")]}, config)
line_cells(lines)                                    # of papers/transfer.py
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxser.config import AttackCommandConfig, as_params
from jaxser.config.hearing import named_corpus
from jaxser.config.transfer import TransferConfig
from jaxser.corpora import Utterance
from jaxser.driver.run import predict
from jaxser.driver.speech import Speech
from jaxser.experiments.attack import attack_missing_rows
from jaxser.experiments.preparation import prepare_run
from jaxser.experiments.run import Run
from jaxser.experiments.sparsity_matching import Matched, is_sparse_pgd, match_sparsity
from jaxser.experiments.speech import load_speech, victim_of
from jaxser.papers.table import Attacked, settings
from jaxser.papers.transfer import Line, TransferTable, matched_share, open_line
from jaxser.results.intervals import share
from jaxser.results.units import Over, Units
from jaxser.runtime.errors import InputError, UsageError
from jaxser.speech.audio import read_audio
from jaxser.victims.loading import is_pretrained
from jaxser.victims.victim import Victim

__all__ = ["transfer_lines"]


def transfer_lines(
    table: TransferTable,
    generators: Mapping[str, Sequence[Path | None]],
    config: TransferConfig,
) -> list[Line]:
    """All attacks of the table on all threat models and parts, scored on all victims.

    Args:
      table: of the command.
      generators: by the line of the table, the run for each threat model in turn; None: there is
        none, and the line is left open.
      config: of the command.

    Raises:
      InputError: a folder that is no victim; a victim that does not hear what a threat model hears.
    """
    victims = {}
    for folder in config.victim:
        victims[str(folder)] = victim_of(_common(folder, config))
    lines: list[Line] = []
    for index, threat in enumerate(config.threat):
        own = {title: runs[index] for title, runs in generators.items()}
        loaded = victims.get(str(threat))
        loaded = victim_of(_common(threat, config)) if loaded is None else loaded
        counts: dict[str, Matched] = {}
        for part in config.split:
            lines += _lines(table, threat, loaded, own, part, victims, counts, config)
    return lines


def _lines(
    table: TransferTable,
    threat: Path,
    loaded: Victim,
    generators: dict[str, Path | None],
    part: Literal["train", "val", "test"],
    victims: dict[str, Victim],
    counts: dict[str, Matched],
    config: TransferConfig,
) -> Iterator[Line]:
    """All attacks on one threat model and part.

    The counts that are chosen for the first part, by line, hold for the others, as in the paper.
    """
    common = dataclasses.replace(
        _common(threat, config), y="prediction", split=part, save_wav=True, stoi=True
    )
    speech = load_speech(common, victim=loaded)
    clean = _clean_predictions(speech.spread(config.limit), victims)

    def prepared(entry: Attacked, **more: Any) -> Run:
        (setting,) = settings(entry)
        values = {**entry.parameters, **setting, **more}
        if entry.title in generators:
            values["generator"] = generators[entry.title]
        attacked = dataclasses.replace(
            common,
            attack=entry.attack,
            epsilon=tuple(entry.epsilon),
            params=as_params(values),
            limit=config.limit,
        )
        return prepare_run(attacked, speech)

    def line_of(entry: Attacked) -> Line:
        if generators.get(entry.title, entry) is None:
            return open_line(str(threat), entry.title, part, speech.prepared.corpus.title)
        chosen = counts.get(entry.title)
        run = prepared(entry, **({} if chosen is None else {"count": chosen.count}))
        attack_missing_rows(run, title=f"{entry.title} on {threat.name}, {part}")
        notes = () if chosen is None else (f"{entry.title} on {threat}: {chosen}",)
        line = _line(entry.title, run, clean, victims, config.interval_over, notes)
        return dataclasses.replace(line, notes=(*_defences(victims), *line.notes))

    share = matched_share(table, config.match_sparsity)
    matched = [] if share is None else [entry for entry in table.attacks if is_sparse_pgd(entry)]
    if share is not None and not matched:
        raise UsageError(f"{table.title} has no sparse PGD; leave out --match_sparsity.")
    done: dict[str, Line] = {}
    if isinstance(share, str):
        (entry,) = (entry for entry in table.attacks if entry.title == share)
        if entry in matched:
            raise UsageError(f"{share} is to match another line; give --match_sparsity that one.")
        done[share] = line_of(entry)
        share = done[share].sparsity
    for entry in matched:
        if entry.title not in counts and share is not None:

            def run_of(count: int, entry: Attacked = entry) -> Run:
                return prepared(entry, count=count)

            counts[entry.title] = match_sparsity(run_of, share, part)
    for entry in table.attacks:
        yield done[entry.title] if entry.title in done else line_of(entry)


def _common(victim: Path, config: TransferConfig) -> AttackCommandConfig:
    """What is the same for all attacks on a victim, and where it listens; runs say how long their
    speech is."""
    seconds = config.seconds if is_pretrained(victim) else None
    return AttackCommandConfig(
        victim=victim,
        seed=config.seed,
        corpus=named_corpus(config.corpus, config.root, seconds),
        labels=tuple(config.labels),
    )


def _clean_predictions(speech: Speech, victims: dict[str, Victim]) -> dict[str, np.ndarray]:
    """Of every victim, before the attack; victims must hear what the threat model hears."""
    threat, found = speech.victim, {}
    for name, victim in victims.items():
        if not victim.hears_like(threat):
            raise InputError(
                f"the victim {name} has other labels, another sample rate or another length than "
                f"the threat model {threat.name}; train both on the same speech."
            )
        found[name] = predict(victim, speech.inputs, subset=speech.places)
    return found


def _line(
    title: str,
    run: Run,
    clean: dict[str, np.ndarray],
    victims: dict[str, Victim],
    over: Over,
    notes: tuple[str, ...] = (),
) -> Line:
    rows = run.rows()
    success = np.asarray(rows["success"].to_pylist(), bool)
    x_adv = np.stack([_read(run, utterance) for utterance in run.utterances])
    units = Units.of(
        [utterance.id for utterance in run.utterances],
        [utterance.speaker for utterance in run.utterances],
        over,
        sources=[utterance.whole for utterance in run.utterances],
    )
    asr = {}
    for name, victim in victims.items():
        asr[name] = share(predict(victim, x_adv) != clean[name], units)

    def mean(column: str) -> float:
        values = rows[column].to_numpy()[success]
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else float("nan")

    return Line(
        threat=str(run.config.victim),
        attack=title,
        part=run.config.split,
        utterances=units.sources,
        snr=mean("snr_peak"),
        sparsity=mean("sparsity"),
        stoi=mean("stoi"),
        seconds=float(rows["seconds"].to_numpy().mean()),
        asr=asr,
        corpus=run.corpus.title,
        notes=(*run.facts["notes"], *notes),
    )


def _defences(victims: Mapping[str, Victim]) -> Iterator[str]:
    for name, victim in victims.items():
        if victim.training.defence:
            yield f"{name} was {victim.training.defence}"


def _read(run: Run, utterance: Utterance) -> np.ndarray:
    samples, _ = read_audio(run.wav_path(utterance, run.epsilons[0]))
    return samples[:, 0]

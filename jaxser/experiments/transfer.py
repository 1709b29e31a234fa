"""What attacks made against threat models, scored on other victims.

lines = transfer_lines(table, {"STAA-Net": [Path("runs/staa_net_emodb")]}, config)
line_cells(lines)                                    # of papers/transfer.py
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from jaxser.config import AttackCommandConfig, AttackedCorpusConfig, as_params
from jaxser.config.transfer import TransferConfig
from jaxser.corpora import Utterance
from jaxser.driver.run import predict
from jaxser.driver.speech import Speech
from jaxser.experiments.attack import attack_missing_rows
from jaxser.experiments.preparation import prepare_run
from jaxser.experiments.run import Run
from jaxser.experiments.speech import load_speech
from jaxser.papers.table import settings
from jaxser.papers.transfer import Line, TransferTable
from jaxser.results.intervals import share
from jaxser.results.units import Over, Units
from jaxser.runtime.errors import InputError
from jaxser.speech.audio import read_audio
from jaxser.victims.loading import load_victim
from jaxser.victims.run_folder import read_run
from jaxser.victims.victim import Victim

__all__ = ["transfer_lines"]


def transfer_lines(
    table: TransferTable, generators: Mapping[str, Sequence[Path]], config: TransferConfig
) -> list[Line]:
    """All attacks of the table on all threat models and parts, scored on all victims.

    Args:
      table: of the command.
      generators: by the line of the table, the run for each threat model in turn.
      config: of the command.

    Raises:
      InputError: a folder that is no victim; a victim that does not hear what a threat model hears.
    """
    victims = {}
    for folder in config.victim:
        read_run(folder)  # a mistyped run folder must not be looked for on the hub
        victims[str(folder)] = load_victim(folder)
    lines: list[Line] = []
    for index, threat in enumerate(config.threat):
        own = {title: runs[index] for title, runs in generators.items()}
        for part in config.split:
            lines += _lines(table, threat, own, part, victims, config)
    return lines


def _lines(
    table: TransferTable,
    threat: Path,
    generators: dict[str, Path],
    part: Literal["train", "val", "test"],
    victims: dict[str, Victim],
    config: TransferConfig,
) -> Iterator[Line]:
    """All attacks on one threat model and part."""
    common = AttackCommandConfig(
        victim=threat,
        y="prediction",
        split=part,
        seed=config.seed,
        save_wav=True,
        stoi=True,
        corpus=AttackedCorpusConfig(root=config.root),
    )
    speech = load_speech(common)
    clean = _clean_predictions(speech.spread(config.limit), victims)
    for entry in table.attacks:
        (setting,) = settings(entry)
        values = {**entry.parameters, **setting}
        if entry.title in generators:
            values["generator"] = generators[entry.title]
        attacked = dataclasses.replace(
            common,
            attack=entry.attack,
            epsilon=tuple(entry.epsilon),
            params=as_params(values),
            limit=config.limit,
        )
        run = prepare_run(attacked, speech)
        attack_missing_rows(run)
        line = _line(entry.title, run, clean, victims, config.interval_over)
        yield dataclasses.replace(line, notes=(*_defences(victims), *line.notes))


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
        notes=tuple(run.facts["notes"]),
    )


def _defences(victims: Mapping[str, Victim]) -> Iterator[str]:
    for name, victim in victims.items():
        if victim.training.defence:
            yield f"{name} was {victim.training.defence}"


def _read(run: Run, utterance: Utterance) -> np.ndarray:
    samples, _ = read_audio(run.wav_path(utterance, run.epsilons[0]))
    return samples[:, 0]

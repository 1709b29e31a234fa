"""A paper's grid of attacks on one victim: every setting is a run with rows of its own.

evaluation = evaluate_victim(load_table(path), Path("runs/cnn_lstm_emodb"), {}, config)
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from jaxser.config import AttackCommandConfig, as_params
from jaxser.config.evaluate import EvaluateConfig
from jaxser.config.hearing import named_corpus
from jaxser.driver.speech import Speech
from jaxser.experiments.attack import attack_missing_rows
from jaxser.experiments.preparation import prepare_run
from jaxser.experiments.pretrained import training_of
from jaxser.experiments.speech import load_speech
from jaxser.papers.table import Attacked, Table, settings
from jaxser.reporting.evaluation.outcomes import GROUPS, Evaluation, Line, outcomes_of

__all__ = ["evaluate_victim"]


def evaluate_victim(
    table: Table, victim: Path, limits: Mapping[str | None, int], config: EvaluateConfig
) -> Evaluation:
    """All settings of a table on one victim, and the victim before any attack.

    Args:
      table: its attacks.
      victim: run folder.
      limits: utterances by the title of an attack, and under None those of all others.
      config: of the command.

    Raises:
      UsageError, InputError: see the message.
    """
    common = AttackCommandConfig(
        victim=victim,
        domain=table.domain,
        y=table.y,
        seed=config.seed,
        batch_size=config.batch_size,
        corpus=named_corpus(config.corpus, config.root, config.seconds),
        labels=tuple(config.labels),
    )
    speech = load_speech(common)
    given: dict[str, Speech] = {"logits": speech}
    lines: list[Line] = []
    for entry in table.attacks:
        limit = limits.get(entry.title, limits.get(None))
        if entry.output not in given:
            given[entry.output] = load_speech(dataclasses.replace(common, output=entry.output))
        for setting in settings(entry):
            attacked = dataclasses.replace(
                common,
                attack=entry.attack,
                epsilon=tuple(entry.epsilon),
                params=as_params({**entry.parameters, **setting}),
                limit=limit,
                output=entry.output,
            )
            lines += _lines(attacked, given[entry.output], entry, setting)
    return Evaluation(
        victim=victim,
        trained=training_of(common, speech.victim),
        table=table,
        speech=speech,
        lines=tuple(lines),
        interval_over=config.interval_over,
    )


def _lines(
    config: AttackCommandConfig, speech: Speech, entry: Attacked, setting: Mapping[str, Any]
) -> list[Line]:
    """A line per ε of one run, whose rows are made now where they are missing."""
    run = prepare_run(config, speech)
    run = dataclasses.replace(run, examples=_examples(run.speech))
    told = " ".join(f"{name} {value}" for name, value in setting.items())
    attack_missing_rows(run, title=f"{entry.title} {told}".strip())
    rows = run.rows()
    lines = []
    for epsilon in run.epsilons:
        its = rows.filter(pc.equal(rows["epsilon"], epsilon))
        values = dict(setting) | ({"epsilon": epsilon} if len(run.epsilons) > 1 else {})
        lines.append(
            Line(
                attack=entry.title,
                setting=" ".join(f"{name} {value}" for name, value in values.items()),
                outcomes=outcomes_of(its),
                seconds=float(np.sum(its["seconds"].to_numpy())),
                compile_seconds=float(np.max(its["compile_seconds"].to_numpy())),
                examples=tuple(
                    (run.utterances[i], run.example_path(run.utterances[i], epsilon))
                    for i in run.examples
                ),
            )
        )
    return lines


def _examples(speech: Speech) -> tuple[int, ...]:
    """Places of the utterances that pictures are of: a female and a male one, as spoken.

    The first that the victim knows; where it knows none, the first. Where no gender is told, one.
    """
    right = speech.clean.prediction == speech.labels
    spoken = np.array([not utterance.variant for utterance in speech.utterances])
    genders = np.array([utterance.gender for utterance in speech.utterances])
    found = []
    for gender in GROUPS[1:]:
        places = np.flatnonzero(genders == gender)
        if len(places):
            # The first of those that are most: known and as spoken, then as spoken.
            worth = 2 * spoken[places] + right[places]
            found.append(int(places[worth.argmax()]))
    return tuple(found) or (int((2 * spoken + right).argmax()),)

"""One training run of a generator: from a config with threat models to a run folder.

    outcome = train_generator(config)                       # config.threat names run folders
    attack = jaxser.attacks.StaaNet(jaxser.load_generator(config.out))

The folder holds what a victim's does (see :mod:`jaxser.training.run`), ``results.json`` with the
attack success rate, SNR and sparsity on the validation and the test part, and in
``example_<part>`` what :func:`jaxser.reporting.example.write_example` leaves of one utterance of
each.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxser.attacks.generator import ALL_TARGETS, Generator
from jaxser.attacks.projections import clip_to_bounds
from jaxser.config import AdversarialConfig, TrainConfig, to_mapping
from jaxser.corpora import Prepared
from jaxser.corpora.selection import select, split_rows
from jaxser.driver.ahead_of_time import Program
from jaxser.driver.run import predict
from jaxser.reporting.example import write_example
from jaxser.reporting.figures.spectrograms import perturbation_figure
from jaxser.results.intervals import share
from jaxser.results.schema import epsilon_names
from jaxser.results.units import Over, Units
from jaxser.runtime.checkpoint import load_variables
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.files import write_text
from jaxser.runtime.numerics import seed_key
from jaxser.runtime.provenance import fingerprint_of
from jaxser.runtime.sharding import batch_sharding, make_mesh, placed_like, replicated
from jaxser.runtime.stages import stage
from jaxser.runtime.text import counted
from jaxser.runtime.together import first_alone, is_first, meet, wait_for_first
from jaxser.training.evaluation import units_of_each
from jaxser.training.folder import begun, described_run
from jaxser.training.generator import (
    BOUNDS,
    GeneratorState,
    init_generator_state,
    make_generator_evaluation,
    make_generator_step,
)
from jaxser.training.input_pipeline import WaveformSource, evaluation_batches, unpadded
from jaxser.training.loop import LoopSettings, say_unchosen, train_in_folder
from jaxser.training.optimizer import learning_rate_at, make_optimizer
from jaxser.training.run import TrainingOutcome
from jaxser.training.update import UpdateWith
from jaxser.training.writer import RunWriter
from jaxser.victims.generator import (
    build_generator,
    generator_module,
    initialise,
    read_generator_run,
)
from jaxser.victims.hugging_face.layout import is_pretrained_folder
from jaxser.victims.loading import load_victim
from jaxser.victims.victim import Victim

__all__ = ["part_figures", "train_generator"]

# Rows of an evaluation batch.
_EVALUATION_ROWS = 16


def train_generator(config: TrainConfig) -> TrainingOutcome:
    """Train, or go on training, a generator against the victims in ``config.threat``.

    Raises:
      UsageError: settings that contradict each other, or a folder that holds another run.
      InputError: a threat model does not fit the corpus, or gives logits that are not finite; see
        also :func:`jaxser.training.run.train_victim`.
    """
    _check_settings(config)
    stage("preparing the speech")
    prepared = first_alone(lambda: select(config.corpus))
    stage("loading the threat models")
    threats = [_load_threat(folder, config, prepared) for folder in config.threat]
    facts = {"threat models": [fingerprint_of(threat.variables) for threat in threats]}
    with described_run(config, prepared, facts):
        return _Run(config, prepared, threats).train()


def _check_settings(config: TrainConfig) -> None:
    training, generator = config.training, config.generator
    refused = {
        "training.mixup": training.mixup > 0,
        "training.random_shift": training.random_shift,
        "training.class_weights": training.class_weights,
        "training.layer_decay": training.layer_decay < 1,
        "training.schedule plateau": training.schedule == "plateau",
        "training.noise": training.noise > 0,
        "training.adversarial": training.adversarial != AdversarialConfig(),
    }
    for name, given in refused.items():
        if given:
            raise UsageError(f"{name} is for victims; leave it out where --threat is given.")
    if training.monitor in ("uar", "robust"):
        raise UsageError(
            f"a generator has no {'UAR' if training.monitor == 'uar' else 'robustness'}; set "
            "training.monitor to asr, loss or last."
        )
    if generator.keep_sparsity is not None and not generator.factorised:
        raise UsageError(
            "generator.keep_sparsity needs locations; leave generator.factorised true."
        )
    if generator.anneal_epochs and generator.keep_sparsity is None:
        raise UsageError("generator.anneal_epochs needs a share to end at; give keep_sparsity.")


def _load_threat(folder: Path, config: TrainConfig, prepared: Prepared) -> Victim:
    """The victim in ``folder``, which must read this corpus."""
    corpus, speech = prepared.corpus, config.corpus
    if is_pretrained_folder(folder):
        victim = load_victim(folder, samples=speech.num_samples, sample_rate=speech.sample_rate)
    else:
        victim = load_victim(folder)
    if victim.labels != tuple(corpus.labels):
        raise InputError(
            f"the threat model {folder} knows the labels {', '.join(victim.labels)}, but "
            f"{corpus.name} has {', '.join(corpus.labels)}; train the generator on the speech of "
            "its threat model."
        )
    if victim.sample_rate != speech.sample_rate:
        raise InputError(
            f"the threat model {folder} hears {victim.sample_rate} Hz, but corpus.sample_rate is "
            f"{speech.sample_rate}; give that of the threat model."
        )
    if tuple(victim.input_shape) != (speech.num_samples,):
        seconds = victim.input_shape[0] / victim.sample_rate
        raise InputError(
            f"the threat model {folder} reads {seconds:g} s of speech, but corpus.seconds is "
            f"{speech.seconds:g}; give that of the threat model."
        )
    return victim


class _Run:
    """A run under way."""

    def __init__(self, config: TrainConfig, prepared: Prepared, threats: Sequence[Victim]) -> None:
        corpus = prepared.corpus
        self.config, self.prepared, self.threats = config, prepared, threats
        self.labels = tuple(corpus.labels)
        self.generator = build_generator(config, self.labels, None, str(config.out))
        self.mesh = make_mesh()
        labels = _clean_predictions(config, prepared, threats)
        self.source = functools.partial(WaveformSource, prepared.waveforms, labels)
        meet()
        self.threat_variables = [
            jax.device_put(threat.variables, replicated(self.mesh)) for threat in threats
        ]
        self._evaluate = jax.jit(
            make_generator_evaluation(self.generator, threats, config.generator)
        )
        # One program for the examples of all epochs.
        self._perturb = jax.jit(self._perturbation)
        steps = LoopSettings.of(config.training, len(split_rows(prepared.corpus, "train")))
        rate = functools.partial(learning_rate_at, config.training, steps.steps_per_epoch)
        log_to = config.training.log_to
        self.writer = RunWriter(config.out, is_first(), rate, log_to)

    def train(self) -> TrainingOutcome:
        with self.writer:
            return self._train()

    def _train(self) -> TrainingOutcome:
        config, mesh = self.config, self.mesh
        train, validation = (
            self.source(split_rows(self.prepared.corpus, part)) for part in ("train", "val")
        )
        say_unchosen(config, len(validation))
        steps_per_epoch = LoopSettings.of(config.training, len(train)).steps_per_epoch
        optimizer = make_optimizer(config.training, steps_per_epoch)
        init_key, step_key = jax.random.split(seed_key(config.seed))
        module = generator_module(config, len(self.labels))
        variables = jax.jit(functools.partial(initialise, module))(init_key)
        if config.generator.start is not None and not begun(config.out):
            variables = _started(config.generator.start, variables)
        state = init_generator_state(self.generator, variables, optimizer)
        update = make_generator_step(
            self.generator, self.threats, config.generator, optimizer, step_key, steps_per_epoch
        )
        program = Program(
            unpadded(update, config.training.batch_size, mesh),
            donate=(0,),
            in_shardings=(replicated(mesh), batch_sharding(mesh), replicated(mesh)),
            out_shardings=replicated(mesh),
        )
        state, record, signal = train_in_folder(
            config,
            UpdateWith(program, self.threat_variables),
            state,
            train,
            mesh,
            functools.partial(self.figures, validation) if len(validation) else None,
            self.writer,
            functools.partial(self._show_example, validation),
        )
        results = {}
        if record["finished"]:
            stage("evaluating")
            results = self._results(record, state)
            # The others would take a process that has ended for one that failed.
            wait_for_first()
        return TrainingOutcome(
            finished=record["finished"],
            step=int(state.step),
            signal=signal,
            results=results,
            title=self.prepared.corpus.title,
            notes=self.prepared.corpus.notes,
        )

    def figures(self, source: WaveformSource, variables: Any) -> dict[str, float]:
        """Validation figures of an epoch, at the middle of the range of ε."""
        rows = self._rows(source, variables, _middle(self.generator))
        return {f"val_{name}": value for name, value in _summary(rows).items()}

    def _rows(
        self, source: WaveformSource, variables: Any, epsilon: float
    ) -> dict[str, np.ndarray]:
        """Figures of every utterance of a part."""
        found: list[dict[str, np.ndarray]] = []
        for start, (batch, count) in enumerate(
            evaluation_batches(source, batch_size=_EVALUATION_ROWS)
        ):
            batch["epsilon"] = np.full(_EVALUATION_ROWS, epsilon, np.float32)
            batch |= self._asked(batch["y"][:, 0], start * _EVALUATION_ROWS)
            of_batch = self._evaluate(variables, batch, self.threat_variables)
            found.append({name: np.asarray(value)[:count] for name, value in of_batch.items()})
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _asked(self, y: np.ndarray, first: int) -> dict[str, np.ndarray]:
        """Classes to reach: the one, or the others in turn."""
        if self.generator.target is None:
            return {}
        if self.generator.target != ALL_TARGETS:
            return {"target": np.full_like(y, self.labels.index(self.generator.target))}
        turn = 1 + (first + np.arange(len(y))) % (len(self.labels) - 1)
        return {"target": ((y + turn) % len(self.labels)).astype(y.dtype)}

    def _example(
        self, source: WaveformSource, variables: Any
    ) -> tuple[str, np.ndarray, np.ndarray]:
        """Id, speech and adversarial speech of the first utterance of a part."""
        utterance = self.prepared.corpus.utterances[source.rows[0]]
        # On the host, whose arrays are the same to all processes.
        x = np.asarray(source.waveforms[source.rows[:1]])
        epsilon = np.full(1, _middle(self.generator), np.float32)
        target = self._asked(source.labels[source.rows[:1], 0], 0).get("target")
        asked = None if self.generator.target != ALL_TARGETS else target
        delta = np.asarray(self._perturb(variables, x, epsilon, asked))
        x_adv = clip_to_bounds(jnp.asarray(x + delta), jnp.asarray(x), BOUNDS)
        return utterance.id, x[0], np.asarray(x_adv[0])

    def _perturbation(self, variables: Any, *inputs: Any) -> Any:
        return dataclasses.replace(self.generator, variables=variables).perturbation(*inputs)

    def _show_example(
        self,
        source: WaveformSource,
        state: GeneratorState,
        history: Sequence[Mapping[str, float]],
    ) -> GeneratorState:
        """One utterance to look at and to hear in TensorBoard."""
        if len(source):
            name, x, x_adv = self._example(source, state.variables)
            rate, step = self.config.corpus.sample_rate, int(history[-1]["step"])
            self.writer.figure("example", perturbation_figure(name, x, x_adv, rate), step)
            self.writer.audio("example", x_adv, rate, step)
        return state

    def _results(self, record: dict[str, Any], state: GeneratorState) -> dict[str, Any]:
        """Evaluate the best checkpoint on the held-out parts; return the figures, which process 0
        writes."""
        config, corpus = self.config, self.prepared.corpus
        wait_for_first()  # which has saved the best one
        # Where the validation of each epoch found them, so that its program serves here.
        best = load_variables(config.out / "checkpoints", state.variables)
        variables = placed_like(best, state.variables)
        results: dict[str, Any] = {
            "corpus": corpus.title,
            "synthetic": corpus.synthetic,
            "notes": list(corpus.notes),
            "threat": [str(folder) for folder in config.threat],
            "best_epoch": record["best_epoch"],
            "epochs": len(record["history"]),
        }
        names = epsilon_names(sorted({*self.generator.epsilon, _middle(self.generator)}), digits=6)
        for part in ("val", "test"):
            source = self.source(split_rows(corpus, part))
            if len(source) == 0:
                continue
            utterances = [corpus.utterances[row] for row in source.rows]
            speakers, units = {each.speaker for each in utterances}, units_of_each(utterances)
            whole = {each.whole for each in utterances}
            results[part] = {"utterances": len(whole), "speakers": len(speakers)}
            for epsilon, written in names.items():
                rows = self._rows(source, variables, epsilon)
                results[part][written] = part_figures(rows, units)
                if part == "test":
                    shown = {f"{name}_{written}": value for name, value in _summary(rows).items()}
                    self.writer.scalars("test", shown, record["history"][-1]["step"])
            self._write_example(part, source, variables)
        told = [f"test/asr_{names[epsilon]}" for epsilon in self.generator.epsilon]
        self.writer.hyperparameters(to_mapping(config), told if "test" in results else ["val/asr"])
        if is_first():
            write_text(config.out / "results.json", json.dumps(results, indent=1) + "\n")
        return results

    def _write_example(self, part: str, source: WaveformSource, variables: Any) -> None:
        name, x, x_adv = self._example(source, variables)
        if is_first():
            folder = self.config.out / f"example_{part}"
            write_example(folder, name, x, x_adv, self.config.corpus.sample_rate)


def _started(folder: Path, variables: Any) -> Any:
    """The variables of a trained generator, which must be of the same network."""
    trained = read_generator_run(folder)[1].variables
    shapes, its = (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), each) for each in (variables, trained)
    )
    if shapes != its:
        raise UsageError(
            f"the generator in {folder} is another network (its widths, its classes or its range "
            "of epsilon differ); give generator.start a run like this one."
        )
    return jax.tree.map(jnp.asarray, trained)


def _clean_predictions(
    config: TrainConfig, prepared: Prepared, threats: Sequence[Victim]
) -> np.ndarray:
    """Classes that the threat models predict, ``[utterances, threats]``; -1 outside all parts."""
    corpus = prepared.corpus
    rows = np.sort(np.concatenate([split_rows(corpus, part) for part in ("train", "val", "test")]))
    found = np.full((len(corpus.utterances), len(threats)), -1, np.int32)
    for index, threat in enumerate(threats):
        found[rows, index] = predict(threat, prepared.waveforms, subset=rows)
        unknown = rows[found[rows, index] < 0]
        if len(unknown):
            raise InputError(
                f"the threat model {config.threat[index]} gives logits that are not finite for "
                f"{corpus.utterances[unknown[0]].id} ({counted(len(unknown), 'utterance')}); "
                "train it again, or leave it out."
            )
    return found


def _middle(generator: Generator) -> float:
    """The geometric middle of the range of ε."""
    return math.sqrt(generator.epsilon[0] * generator.epsilon[1])


def _summary(rows: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means over all rows; SNR and sparsity also over those that fooled some threat model alone,
    as the paper has them."""
    fooled = rows["fooled"] > 0
    figures = {
        "loss": float(rows["loss"].mean()),
        "asr": float(rows["fooled"].mean()),
        "sparsity": float(rows["sparsity"].mean()),
        "snr_power": _mean(rows["snr_power"]),
        "fooled_sparsity": _mean(rows["sparsity"][fooled]),
        "fooled_snr_peak": _mean(rows["snr_peak"][fooled]),
    }
    return figures


def part_figures(
    rows: Mapping[str, np.ndarray], units: Mapping[Over, Units]
) -> dict[str, float | list[float]]:
    """Figures of a part at one ε, and the intervals of its ASR over utterances and speakers.

    Of several threat models an utterance counts as the share of them that it fools.
    """
    found: dict[str, float | list[float]] = {**_summary(rows)}
    for over, its in units.items():
        asr = share(rows["fooled"], its)
        found[f"asr_interval_{over}s"] = [asr.low, asr.high]
    return found


def _mean(values: np.ndarray) -> float:
    """Of the defined ones; NaN without any."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")

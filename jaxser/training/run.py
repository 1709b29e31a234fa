"""One training run: from a config to a run folder that can be attacked, resumed and read.

    outcome = train_victim(config)

The folder holds ``config.yaml``, ``run.json`` (labels, corpus fingerprint, versions, device, git
revision), ``split.csv``, ``checkpoints/{best,last}``, ``history.csv``, ``results.json``,
``confusion_<part>.png`` and ``tensorboard/``.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxser.config import TrainConfig, TrainingConfig, to_mapping
from jaxser.corpora import Prepared, Utterance
from jaxser.corpora.selection import label_indices, select, split_rows
from jaxser.corpora.table import Split
from jaxser.models import input_of
from jaxser.models.front_end import RowBatches, WithFrontEnd, fit_statistics
from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.reporting.figures.canvas import save_figure
from jaxser.reporting.figures.confusion import confusion_figure
from jaxser.results.intervals import estimates
from jaxser.results.metrics import accuracy, confusion_matrix, macro_f1, uar
from jaxser.results.units import Over, Units
from jaxser.runtime.checkpoint import load_variables
from jaxser.runtime.errors import UsageError
from jaxser.runtime.files import write_text
from jaxser.runtime.numerics import seed_key
from jaxser.runtime.sharding import batch_sharding, make_mesh, replicated
from jaxser.training.folder import begun, describe_run, run_folder
from jaxser.training.input_pipeline import WaveformSource, evaluation_batches
from jaxser.training.loop import LoopSettings, train_in_folder
from jaxser.training.victim import (
    TrainState,
    class_weights,
    init_state,
    learning_rate_at,
    make_evaluation_step,
    make_optimizer,
    make_train_step,
    with_plateau_rate,
)
from jaxser.training.writer import RunWriter
from jaxser.victims.hugging_face.reading import read_pretrained
from jaxser.victims.image_checkpoints.reading import read_image_checkpoint
from jaxser.victims.module import build_module, features_of
from jaxser.victims.run_folder import ARCHITECTURE

__all__ = ["TrainingOutcome", "Watch", "metrics_with_intervals", "train_victim", "units_of_each"]

_METRICS = {"accuracy": accuracy, "uar": uar, "macro_f1": macro_f1}

# Rows of an evaluation batch: enough to keep two cores busy, little memory.
_EVALUATION_ROWS = 32


@dataclasses.dataclass(frozen=True)
class TrainingOutcome:
    """What a run came to.

    Attributes:
      finished: False where a signal stopped it; the same command goes on.
      step: updates so far.
      signal: number of that signal; 0 where there was none.
      results: figures per part, as in ``results.json`` ({} while unfinished).
      title: of the corpus, for tables.
      notes: remarks that belong to every figure.
    """

    finished: bool
    step: int
    signal: int
    results: dict[str, Any]
    title: str
    notes: tuple[str, ...]


Watch = Callable[[Sequence[Mapping[str, float]]], None]


def train_victim(config: TrainConfig, watch: Watch | None = None) -> TrainingOutcome:
    """Train, or go on training, the victim that ``config`` describes.

    Args:
      config: of the run.
      watch: called after every epoch with the figures of all epochs so far; what it raises ends
        the training.

    Raises:
      UsageError: the folder holds a run with another config, or something else.
      InputError: see :func:`jaxser.corpora.selection.select`; or the corpus has changed since the
        run began; or the run is being trained by another process.
    """
    prepared = select(config.corpus)
    with run_folder(config.out):
        describe_run(config, prepared)
        return _train(config, prepared, watch)


def _train(config: TrainConfig, prepared: Prepared, watch: Watch | None) -> TrainingOutcome:
    corpus, mesh = prepared.corpus, make_mesh()
    # A run that goes on needs the checkpoint that it began with no more.
    resumed = begun(config.out)
    model = build_module(config, len(corpus.labels), config.out / ARCHITECTURE if resumed else None)
    statistics, inputs = _inputs(config, model, prepared)
    source = functools.partial(WaveformSource, inputs, label_indices(corpus))
    train = source(split_rows(corpus, "train"))
    validation = source(split_rows(corpus, "val"))
    _check_settings(config, len(validation))
    evaluate = _Evaluation(model, len(corpus.labels))
    blocks = _blocks(config, model)
    steps_per_epoch = LoopSettings.of(config.training, len(train)).steps_per_epoch
    optimizer = make_optimizer(config.training, steps_per_epoch, blocks)
    init_key, step_key = jax.random.split(seed_key(config.seed))
    shape = (config.corpus.num_samples,)
    state = init_state(
        model,
        optimizer,
        init_key,
        shape,
        len(corpus.labels),
        statistics,
        pretrained=None if resumed else _pretrained(config, model, corpus.labels),
        frozen=("feature_encoder",) if blocks and config.model.freeze_feature_encoder else (),
    )
    weights = (
        class_weights(train.labels[train.rows], len(corpus.labels))
        if config.training.class_weights
        else None
    )
    update = jax.jit(
        make_train_step(model, optimizer, step_key, weights, config.training.mixup),
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=replicated(mesh),
        donate_argnums=0,
    )
    rate = functools.partial(learning_rate_at, config.training, steps_per_epoch)
    with RunWriter(config.out, jax.process_index() == 0, rate) as writer:
        state, record, signal = train_in_folder(
            config,
            update,
            state,
            train,
            mesh,
            functools.partial(evaluate.figures, validation) if len(validation) else None,
            writer,
            functools.partial(_after_epoch, config.training, watch),
        )
        results: dict[str, Any] = {}
        if record["finished"]:
            parts = {"val": validation, "test": source(split_rows(corpus, "test"))}
            results = _final_results(
                config, prepared, evaluate, parts, record, state.variables, writer
            )
    return TrainingOutcome(
        finished=record["finished"],
        step=int(state.step),
        signal=signal,
        results=results,
        title=corpus.title,
        notes=corpus.notes,
    )


def _check_settings(config: TrainConfig, validation_rows: int) -> None:
    """Refuse what cannot work together."""
    if config.training.mixup > 0 and config.features.kind != "waveform":
        raise UsageError("training.mixup mixes waveforms; set it to 0 for spectrograms.")
    if config.training.monitor == "asr":
        raise UsageError("a victim has no ASR; set training.monitor to uar, loss or last.")
    if config.training.schedule == "plateau" and not validation_rows:
        raise UsageError(
            f"the split {config.corpus.split} has no validation part, which the schedule plateau "
            "needs; take another one."
        )


def _blocks(config: TrainConfig, model: nn.Module) -> int:
    """Of a speech transformer; 0 for other victims."""
    blocks = model.config.num_hidden_layers if isinstance(model, SpeechTransformer) else 0
    if config.training.layer_decay < 1 and (not blocks or config.model.scan_layers):
        raise UsageError(
            f"training.layer_decay needs the blocks of a speech transformer, each by itself, which "
            f"{config.model.name} does not have here; set it to 1"
            + (", or model.scan_layers to false." if blocks else ".")
        )
    return blocks


def _pretrained(
    config: TrainConfig, model: nn.Module, labels: Sequence[str]
) -> dict[str, Any] | None:
    """Variables of the checkpoint to go on from, with a new classifier where classes differ."""
    if config.model.checkpoint is None:
        return None
    if input_of(config.model.name) == "image":
        image = read_image_checkpoint(
            config.model.checkpoint, len(labels), config.seed, name=config.model.name
        )
        # Behind a front end, a network's variables are a part of the whole.
        within = {kind: {"network": tree} for kind, tree in image.variables.items()}
        variables = within if hasattr(model, "network") else image.variables
        return jax.tree.map(jnp.asarray, variables)
    found = read_pretrained(
        config.model.checkpoint, labels, config.seed, scan_layers=config.model.scan_layers
    )
    return jax.tree.map(jnp.asarray, found.variables)


def _after_epoch(
    config: TrainingConfig,
    watch: Watch | None,
    state: TrainState,
    history: Sequence[Mapping[str, float]],
) -> TrainState:
    if watch is not None:
        watch(history)
    return with_plateau_rate(state, config, history) if config.schedule == "plateau" else state


def _inputs(
    config: TrainConfig, model: nn.Module, prepared: Prepared
) -> tuple[dict[str, np.ndarray] | None, np.ndarray]:
    """Statistics of the front end, and what the network reads of every utterance.

    A victim that reads spectrograms is trained on its features, found once; the front end has
    nothing to learn. Utterances that are in no part are left as they happen to be.
    """
    if not isinstance(model, WithFrontEnd):
        return None, prepared.waveforms
    corpus = prepared.corpus
    rows = {part: split_rows(corpus, part) for part in get_args(Split)}
    everything = np.sort(np.concatenate(list(rows.values())))
    fitted_on = everything if config.corpus.protocol == "paper" else rows["train"]
    statistics = fit_statistics(model, RowBatches(prepared.waveforms, fitted_on))
    features = jax.jit(features_of(model))
    shape = (len(prepared.waveforms), model.frames, model.front_end.bins)
    inputs = np.empty(shape, np.float32)
    done = 0
    for x in RowBatches(prepared.waveforms, everything):
        inputs[everything[done : done + len(x)]] = features({"batch_stats": statistics}, x)
        done += len(x)
    return statistics, inputs


class _Evaluation:
    """Predictions over whole parts, through one compiled program."""

    def __init__(self, model: nn.Module, num_classes: int) -> None:
        self._step = jax.jit(make_evaluation_step(model))
        self._num_classes = num_classes

    def predict(self, source: WaveformSource, variables: Any) -> tuple[np.ndarray, np.ndarray]:
        """(cross-entropy, predicted class) of every row."""
        losses, predictions = [], []
        for batch, count in evaluation_batches(source, batch_size=_EVALUATION_ROWS):
            loss, prediction = self._step(variables, batch)
            losses.append(np.asarray(loss)[:count])
            predictions.append(np.asarray(prediction)[:count])
        return np.concatenate(losses), np.concatenate(predictions)

    def figures(self, source: WaveformSource, variables: Any) -> dict[str, float]:
        """Validation figures of an epoch."""
        losses, predictions = self.predict(source, variables)
        matrix = confusion_matrix(source.labels[source.rows], predictions, self._num_classes)
        return {
            "val_loss": float(losses.mean()),
            **{f"val_{name}": float(metric(matrix)) for name, metric in _METRICS.items()},
        }


def _final_results(
    config: TrainConfig,
    prepared: Prepared,
    evaluate: _Evaluation,
    parts: Mapping[str, WaveformSource],
    record: dict[str, Any],
    like: Any,
    writer: RunWriter,
) -> dict[str, Any]:
    """Evaluate the best checkpoint on the held-out parts; write and return the figures."""
    variables = load_variables(config.out / "checkpoints", like)
    corpus = prepared.corpus
    results: dict[str, Any] = {
        "corpus": corpus.title,
        "synthetic": corpus.synthetic,
        "notes": list(corpus.notes),
        "best_epoch": record["best_epoch"],
        "epochs": len(record["history"]),
    }
    for part, source in parts.items():
        if len(source) == 0:
            continue
        losses, predictions = evaluate.predict(source, variables)
        truth = source.labels[source.rows]
        utterances = [corpus.utterances[row] for row in source.rows]
        speakers = [utterance.speaker for utterance in utterances]
        genders = np.array([utterance.gender for utterance in utterances])
        matrix = confusion_matrix(truth, predictions, len(corpus.labels))
        results[part] = {
            "utterances": len(source),
            "speakers": len(set(speakers)),
            "loss": float(losses.mean()),
            "confusion": matrix.tolist(),
            **metrics_with_intervals(truth, predictions, utterances, corpus.labels),
            "by_gender": {
                gender: {
                    "utterances": int((genders == gender).sum()),
                    **metrics_with_intervals(
                        truth[genders == gender],
                        predictions[genders == gender],
                        [each for each in utterances if each.gender == gender],
                        corpus.labels,
                    ),
                }
                for gender in sorted(set(genders) - {"unknown"})
            },
        }
        figure = confusion_figure(
            matrix, corpus.labels, f"{config.model.name}, {corpus.title}, {part}"
        )
        save_figure(figure, config.out / f"confusion_{part}.png")
        step = record["history"][-1]["step"]
        writer.figure(f"confusion/{part}", figure, step)
        if part == "test":
            figures = {name: results[part][name]["value"] for name in _METRICS}
            writer.scalars("test", {"loss": results[part]["loss"], **figures}, step)
    told = "test" if "test" in results else "val"
    writer.hyperparameters(to_mapping(config), [f"{told}/{name}" for name in ("loss", *_METRICS)])
    write_text(config.out / "results.json", json.dumps(results, indent=1) + "\n")
    return results


def metrics_with_intervals(
    truth: np.ndarray,
    predictions: np.ndarray,
    utterances: Sequence[Utterance],
    labels: Sequence[str],
) -> dict[str, Any]:
    """Each metric with its 95% intervals over utterances and over speakers."""
    found = {
        over: estimates(_METRICS, truth, predictions, labels, units)
        for over, units in units_of_each(utterances).items()
    }
    return {
        name: {
            "value": found["utterance"][name].value,
            **{f"interval_{over}s": [its[name].low, its[name].high] for over, its in found.items()},
        }
        for name in _METRICS
    }


def units_of_each(utterances: Sequence[Utterance]) -> dict[Over, Units]:
    """Units of one row per utterance, over utterances and over speakers."""
    ids, speakers = [each.id for each in utterances], [each.speaker for each in utterances]
    return {over: Units.of(ids, speakers, over) for over in get_args(Over)}

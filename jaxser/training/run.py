"""One training run: from a config to a run folder that can be attacked, resumed and read.

    outcome = train_victim(config)

The folder holds ``config.yaml``, ``run.json`` (labels, corpus fingerprint, versions, device, git
revision), ``split.csv``, ``checkpoints/{best,last}``, ``history.csv``, ``results.json``,
``cost.json``, ``confusion_<part>.png`` and ``tensorboard/``.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh

from jaxser import models
from jaxser.config import TrainConfig, TrainingConfig
from jaxser.corpora import Prepared
from jaxser.corpora.selection import label_indices, select, split_rows, spread_rows
from jaxser.corpora.table import Split
from jaxser.driver.ahead_of_time import Program
from jaxser.models import input_of
from jaxser.models.front_end import RowBatches, WithFrontEnd, fit_statistics
from jaxser.models.image_front_end import WithImage, fit_range
from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.results.training_facts import UNRECORDED, TrainingFacts
from jaxser.runtime.errors import UsageError
from jaxser.runtime.numerics import seed_key
from jaxser.runtime.sharding import batch_sharding, make_mesh, replicated
from jaxser.runtime.stages import stage
from jaxser.runtime.together import first_alone, is_first, meet, wait_for_first
from jaxser.speech.augmentation import ImageAugmentation
from jaxser.training.adversarial import Defence, adversarial_parts
from jaxser.training.adversarial_update import adversarial_update
from jaxser.training.cost import training_cost
from jaxser.training.defence import budget_of, check_defence, defence_of, resolved_attack
from jaxser.training.evaluation import Evaluation, final_results
from jaxser.training.folder import begun, described_run
from jaxser.training.input_pipeline import WaveformSource, unpadded
from jaxser.training.loop import LoopSettings, say_unchosen, train_in_folder
from jaxser.training.optimizer import learning_rate_at, make_optimizer, with_plateau_rate
from jaxser.training.update import Update, UpdateWith
from jaxser.training.victim import (
    Augmentation,
    TrainState,
    class_weights,
    init_state,
    make_train_step,
)
from jaxser.training.watching import RobustWatch
from jaxser.training.writer import RunWriter
from jaxser.victims.hugging_face.reading import read_pretrained
from jaxser.victims.image_checkpoints.reading import read_image_checkpoint
from jaxser.victims.module import build_module, features_of
from jaxser.victims.run_folder import ARCHITECTURE
from jaxser.victims.training_record import COST_FILE, training_facts, write_cost

__all__ = ["TrainingOutcome", "Watch", "train_victim"]

# Windows whose spectrograms say what the first and the last colour of an image are.
_RANGE_ROWS = 4096

# A network whose loss is so many times that of guessing has diverged, though it is finite.
_TIMES_GUESSING = 1000


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
      facts: what the victim was trained against, and what that took; of a generator nothing.
    """

    finished: bool
    step: int
    signal: int
    results: dict[str, Any]
    title: str
    notes: tuple[str, ...]
    facts: TrainingFacts = UNRECORDED


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
    config = resolved_attack(config)
    # Before a corpus is decoded, which may take minutes.
    check_defence(config)
    stage("preparing the speech")
    prepared = _with_start_noted(config, first_alone(lambda: select(config.corpus)))
    with described_run(config, prepared):
        stage("building the victim")
        return _train(config, prepared, watch)


def _with_start_noted(config: TrainConfig, prepared: Prepared) -> Prepared:
    """Say in every result where a network that others start from ImageNet began from scratch."""
    name = config.model.name
    # Echim et al. start from ImageNet weights all networks but their own.
    others = models.input_of(name) == "image" and name != "echim_cnn_lstm"
    if config.model.checkpoint is not None or not others:
        return prepared
    note = f"{name} was trained from scratch, not from ImageNet weights"
    corpus = dataclasses.replace(prepared.corpus, notes=(*prepared.corpus.notes, note))
    return dataclasses.replace(prepared, corpus=corpus)


def _train(config: TrainConfig, prepared: Prepared, watch: Watch | None) -> TrainingOutcome:
    corpus, mesh = prepared.corpus, make_mesh()
    # A run that goes on needs the checkpoint that it began with no more.
    resumed = begun(config.out)
    model = build_module(config, len(corpus.labels), config.out / ARCHITECTURE if resumed else None)
    train_rows = split_rows(corpus, "train")
    steps_per_epoch = LoopSettings.of(config.training, len(train_rows)).steps_per_epoch
    defence = defence_of(config, model, steps_per_epoch)
    statistics, inputs = _inputs(config, model, prepared)
    source = functools.partial(WaveformSource, inputs, label_indices(corpus))
    train, validation = source(train_rows), source(split_rows(corpus, "val"))
    _check_settings(config, len(validation))
    evaluate = Evaluation(model, len(corpus.labels))
    blocks = _blocks(config, model)
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
    meet()
    update = _update(config, model, optimizer, step_key, weights, defence, mesh)
    rate = functools.partial(learning_rate_at, config.training, steps_per_epoch)
    log_to = config.training.log_to
    with RunWriter(config.out, is_first(), rate, log_to) as writer:
        state, record, signal = train_in_folder(
            config,
            update,
            state,
            train,
            mesh,
            _looks(config, model, defence, evaluate, train, validation, mesh),
            writer,
            functools.partial(_after_epoch, config.training, watch),
            _TIMES_GUESSING * math.log(len(corpus.labels)),
        )
        results: dict[str, Any] = {}
        if record["finished"]:
            # Of a run that is shown again the seconds, and the device, are those of its training.
            if is_first() and not (config.out / COST_FILE).exists():
                write_cost(config.out, training_cost(config, defence, record))
            stage("evaluating")
            parts = {"val": validation, "test": source(split_rows(corpus, "test"))}
            if config.training.report_train:
                parts = {"train": train, **parts}
            results = final_results(
                config, corpus, evaluate, parts, record, state.variables, writer
            )
            # The others would take a process that has ended for one that failed.
            wait_for_first()
    return TrainingOutcome(
        finished=record["finished"],
        step=int(state.step),
        signal=signal,
        results=results,
        title=corpus.title,
        notes=corpus.notes,
        facts=training_facts(config.out, config),
    )


def _update(
    config: TrainConfig,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    weights: np.ndarray | None,
    defence: Defence | None,
    mesh: Mesh,
) -> Update[TrainState]:
    """What every step of the training calls."""
    augmentation, noise = _augmentation(config, model), config.training.noise
    if defence is not None:
        parts = adversarial_parts(model, optimizer, key, defence, weights, augmentation, noise)
        epsilon = jax.device_put(budget_of(config), replicated(mesh))
        return UpdateWith(adversarial_update(parts, mesh, config.training.batch_size), epsilon)
    mixup = config.training.mixup
    step = make_train_step(model, optimizer, key, weights, mixup, augmentation, noise)
    return Program(
        unpadded(step, config.training.batch_size, mesh),
        donate=(0,),
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=replicated(mesh),
    )


def _looks(
    config: TrainConfig,
    model: nn.Module,
    defence: Defence | None,
    evaluate: Evaluation,
    train: WaveformSource,
    validation: WaveformSource,
    mesh: Mesh,
) -> Callable[[Any], dict[str, float]] | None:
    """What is looked at after every epoch: variables -> figures."""
    looks: list[Callable[[Any], dict[str, float]]] = []
    if len(validation):
        looks.append(functools.partial(evaluate.figures, validation))
    rows = config.training.adversarial.watch_rows
    if defence is not None and rows:
        watch = RobustWatch(
            model,
            defence,
            float(budget_of(config)[1]),
            {"": train, "val_": validation},
            rows=rows,
            num_classes=evaluate.num_classes,
            mesh=mesh,
        )
        looks.append(watch.figures)
    if not looks:
        return None
    return lambda variables: {name: v for look in looks for name, v in look(variables).items()}


def _check_settings(config: TrainConfig, validation_rows: int) -> None:
    """Refuse what cannot work together."""
    if config.training.mixup > 0 and config.features.kind != "waveform":
        raise UsageError("training.mixup mixes waveforms; set it to 0 for spectrograms.")
    say_unchosen(config, validation_rows)
    if config.training.monitor == "asr":
        raise UsageError("a victim has no ASR; set training.monitor to uar, loss or last.")
    if config.training.schedule == "plateau" and not validation_rows:
        raise UsageError(
            f"the split {config.corpus.split} has no validation part, which the schedule plateau "
            "needs; take another one."
        )


def _augmentation(config: TrainConfig, model: nn.Module) -> Augmentation | None:
    """What a step does to its inputs, where the run asks for it."""
    if not config.training.image_augmentation:
        return None
    if not isinstance(model, WithImage):
        raise UsageError(
            f"training.image_augmentation is of images, which {config.model.name} does not read; "
            "set it to false."
        )

    augment = ImageAugmentation()

    def augmented(key: jax.Array, batch_stats: Any, x: jax.Array) -> jax.Array:
        images = model.apply({"batch_stats": batch_stats}, x, method="image")
        return augment(jax.random.split(key, len(x)), jnp.asarray(images))

    return augmented


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
            config.model.checkpoint, None, config.seed, name=config.model.name, labels=labels
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
) -> tuple[dict[str, np.ndarray] | None, Any]:
    """Statistics of the front end, and what the network reads of every utterance.

    A victim that reads spectrograms is trained on its features, found once, as the front end has
    nothing to learn; where waveforms are attacked, on those. Utterances that are in no part are
    left as they happen to be. Images are made anew in every step: those of all windows of a corpus
    would fill the disk.
    """
    if not isinstance(model, WithFrontEnd | WithImage):
        return None, prepared.waveforms
    corpus = prepared.corpus
    rows = {part: split_rows(corpus, part) for part in get_args(Split)}
    everything = np.sort(np.concatenate(list(rows.values())))
    fitted_on = everything if config.corpus.protocol == "paper" else rows["train"]
    if isinstance(model, WithImage):
        spread = fitted_on[spread_rows(len(fitted_on), _RANGE_ROWS)]
        return fit_range(model, RowBatches(prepared.waveforms, spread)), prepared.waveforms
    statistics = fit_statistics(model, RowBatches(prepared.waveforms, fitted_on))
    if config.training.adversarial.domain == "waveform":
        return statistics, prepared.waveforms
    features = jax.jit(features_of(model))
    shape = (len(prepared.waveforms), model.frames, model.front_end.bins)
    inputs = np.empty(shape, np.float32)
    done = 0
    for x in RowBatches(prepared.waveforms, everything):
        inputs[everything[done : done + len(x)]] = features({"batch_stats": statistics}, x)
        done += len(x)
    return statistics, inputs

"""The one host loop: all the I/O around a jitted update.

It feeds batches, shows progress, evaluates at the end of each epoch, keeps the best and the last
checkpoint, stops early, and stops cleanly on SIGTERM, SIGHUP and Ctrl-C. A run that was stopped
anywhere goes on from its last checkpoint to the same end: everything that decides what comes next
(parameters, optimiser, data position, history) is in that checkpoint.
"""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxser.config import TrainConfig, TrainingConfig
from jaxser.runtime.checkpoint import Checkpoints
from jaxser.runtime.errors import InputError
from jaxser.runtime.sharding import replicated
from jaxser.runtime.signals import requested
from jaxser.runtime.together import as_first
from jaxser.training.agreement import StopFlag, alike_in_all, first_update
from jaxser.training.cost import TIMES, Stopwatch
from jaxser.training.input_pipeline import WaveformSource, training_batches
from jaxser.training.update import Update
from jaxser.training.watching import best_before, best_robust_so_far, collapsed
from jaxser.training.writer import RunWriter

__all__ = ["LoopSettings", "Record", "run_loop", "say_unchosen", "train_in_folder"]

_LOG = logging.getLogger(__name__)

Record = dict[str, Any]
History = Sequence[Mapping[str, float]]


@runtime_checkable
class Metrics(Protocol):
    """Sums on the device since the start of the epoch; a pytree."""

    def figures(self) -> dict[str, float]:
        """What they come to, by name; "loss" is one of them."""
        ...


@runtime_checkable
class State(Protocol):
    """All that an update changes; a dataclass and a pytree.

    Attributes:
      metrics: of the epoch so far.
      variables: what is kept of the best epoch.
    """

    @property
    def metrics(self) -> Metrics: ...

    @property
    def variables(self) -> Any: ...


S = TypeVar("S", bound=State)


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """When to evaluate, save and stop.

    Attributes:
      epochs: at most.
      steps_per_epoch: updates.
      batch_size: rows of an update, for the progress figures.
      monitor: "uar", "robust" or "asr" (higher is better) or "loss" (lower) of the validation
        part; "last" keeps the last epoch.
      patience: epochs without a better one before stopping; 0 never stops.
      checkpoint_seconds: also save within an epoch this often.
      stop_collapsed: end with an epoch that overfitted catastrophically, see
        :func:`jaxser.training.watching.collapsed`.
      most_loss: mean training loss of an epoch beyond which a run has diverged.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    monitor: str
    patience: int
    checkpoint_seconds: float
    stop_collapsed: bool = False
    most_loss: float = math.inf

    @classmethod
    def of(cls, config: TrainingConfig, rows: int, most_loss: float = math.inf) -> "LoopSettings":
        """Those of a run with so many training rows."""
        return cls(
            epochs=config.epochs,
            steps_per_epoch=max(rows // config.batch_size, 1),
            batch_size=config.batch_size,
            monitor=config.monitor,
            patience=config.patience,
            checkpoint_seconds=60 * config.checkpoint_minutes,
            stop_collapsed=config.adversarial.on_overfitting == "stop",
            most_loss=most_loss,
        )

    @property
    def monitored(self) -> str:
        """Name of the figure that picks the best epoch."""
        return "val_robust_uar" if self.monitor == "robust" else f"val_{self.monitor}"

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch


def say_unchosen(config: TrainConfig, validation_rows: int) -> None:
    """Warn of what was asked of a validation part that is not there, and say what is done.

    Args:
      config: of a run.
      validation_rows: of its speech.
    """
    training, done = config.training, []
    if validation_rows:
        if training.patience and training.monitor == "last":
            _LOG.warning(
                "training.patience %d waits for a figure that training.monitor last does not look "
                "at: all %d epochs are run.",
                training.patience,
                training.epochs,
            )
        return
    if training.monitor in ("robust", "loss", "asr"):
        robust = training.monitor == "robust"
        best = ", and checkpoints/best_robust goes by the training rows" if robust else ""
        done.append(
            f"training.monitor {training.monitor} (the last epoch is taken as the best{best})"
        )
    if training.patience:
        done.append(f"training.patience {training.patience} (all {training.epochs} epochs are run)")
    if done:
        _LOG.warning(
            "the split %s has no validation part, which is asked for by %s; a split that has one, "
            "such as speaker, lets epochs be chosen.",
            config.corpus.split,
            " and ".join(done),
        )


def train_in_folder(
    config: TrainConfig,
    update: Update[S],
    state: S,
    train: WaveformSource,
    mesh: Mesh,
    evaluate: Callable[[Any], dict[str, float]] | None,
    writer: RunWriter,
    after_epoch: Callable[[S, History], S] | None = None,
    most_loss: float = math.inf,
) -> tuple[S, Record, int]:
    """:func:`run_loop` on the training rows of a run, with its checkpoints and its signals.

    Returns:
      (state, record, number of the signal that stopped it or 0)
    """
    checkpoints = Checkpoints(config.out / "checkpoints")
    batches = training_batches(
        train,
        batch_size=config.training.batch_size,
        seed=config.seed,
        mesh=mesh,
        random_shift=config.training.random_shift,
    )
    with contextlib.closing(checkpoints), contextlib.closing(batches), requested() as stop:
        state, record = run_loop(
            update,
            jax.device_put(state, replicated(mesh)),
            batches,
            evaluate,
            checkpoints,
            writer,
            LoopSettings.of(config.training, len(train), most_loss),
            stop,
            after_epoch,
        )
        return state, record, stop.number


def run_loop(
    update: Update[S],
    state: S,
    batches: grain.DatasetIterator,
    evaluate: Callable[[Any], dict[str, float]] | None,
    checkpoints: Checkpoints,
    writer: RunWriter,
    settings: LoopSettings,
    stop: StopFlag,
    after_epoch: Callable[[S, History], S] | None = None,
) -> tuple[S, Record]:
    """Train to the end, or until ``stop`` is set.

    Args:
      update: of every batch.
      state: fresh; replaced by the last checkpoint where there is one.
      batches: endless and checkpointable.
      evaluate: variables -> {"val_loss", "val_uar", ...} or None where there is nothing to look
        at. Without the figure that is monitored, as there is no validation part, the last epoch is
        also the best.
      checkpoints: of the run.
      writer: of the run.
      settings: see :class:`LoopSettings`.
      stop: checked after each update.
      after_epoch: (state, history) -> state, such as one with a learning rate that depends on the
        figures so far.

    Returns:
      (state, record): ``record["finished"]`` is False where ``stop`` ended it; everything so far
      is then saved.
    """
    step, state, record = checkpoints.restore_last(state, batches)
    record = _checked(step, record, checkpoints, settings) if step else _new_record()
    saved_at, watch, first = time.monotonic(), Stopwatch(record), True
    writer.start(settings.total_steps * settings.batch_size, step * settings.batch_size, step)
    if not record["finished"]:
        writer.compiling()
    while not record["finished"]:
        batch = next(batches)
        state = watch.first(first_update, update, state, batch) if first else update(state, batch)
        step, first = step + 1, False
        writer.advance(settings.batch_size, state.metrics.figures)
        ends = step % settings.steps_per_epoch == 0
        late = time.monotonic() - saved_at > settings.checkpoint_seconds
        due, stopped = alike_in_all(step, late, stop, ends)
        if ends or due or stopped:
            _check_finite(step, state, checkpoints, settings)
        if ends:
            state = _end_epoch(step, state, evaluate, checkpoints, writer, settings, record)
            if after_epoch is not None:
                state = after_epoch(state, record["history"])
        if due or stopped or ends:
            watch.note(record)
            checkpoints.save_last(step, state, batches, record)
            saved_at = time.monotonic()
        if stopped:
            break
    writer.finish()
    return state, record


def _new_record() -> Record:
    fresh = {"finished": False, "history": [], "best_epoch": None, "best_value": None}
    return fresh | dict.fromkeys(TIMES, 0.0)


def _checked(step: int, record: Any, checkpoints: Checkpoints, settings: LoopSettings) -> Record:
    """The record of a checkpoint, which must say what its step says: the end is found by it."""
    ended = step // settings.steps_per_epoch
    wanted = _new_record()
    if isinstance(record, dict):
        # Older versions did not count.
        record = dict.fromkeys(TIMES) | record
    if not isinstance(record, dict) or record.keys() != wanted.keys():
        reason = f"its record has not the keys {', '.join(wanted)}"
    elif not all(map(_is_time, (record[name] for name in TIMES))):
        reason = "its record has no seconds that can be"
    elif not (
        isinstance(record["history"], list)
        and all(isinstance(figures, dict) for figures in record["history"])
        and [figures.get("epoch") for figures in record["history"]] == list(range(1, ended + 1))
    ):
        reason = f"its record has not the figures of epochs 1 to {ended}"
    elif record["best_epoch"] not in (None, *range(1, ended + 1)):
        reason = f"its record has no best epoch among {ended}"
    elif record["finished"] not in (True, False) or (
        not record["finished"] and ended >= settings.epochs
    ):
        reason = f"its record does not say that epoch {settings.epochs} is the last"
    else:
        return record
    raise checkpoints.damaged(step, reason)


def _is_time(seconds: Any) -> bool:
    return seconds is None or (type(seconds) in (int, float) and 0 <= seconds < float("inf"))


def _check_finite(
    step: int, state: State, checkpoints: Checkpoints, settings: LoopSettings
) -> None:
    """Stop what has diverged before it is saved.

    The loss is of what the last update began with, so that alone would let pass what it made.
    """
    loss = state.metrics.figures()["loss"]
    problem = "" if np.isfinite(loss) else f"the training loss became {loss}"
    if not problem and not _all_finite(state.variables):
        problem = "parameters became infinite or NaN"
    if problem:
        raise _diverged(problem, step, checkpoints, settings)


def _diverged(
    problem: str, step: int, checkpoints: Checkpoints, settings: LoopSettings
) -> InputError:
    return InputError(
        f"{problem} in epoch {(step - 1) // settings.steps_per_epoch + 1}; use a smaller "
        f"training.learning_rate ({checkpoints.kept()})."
    )


@jax.jit
def _finite(tree: Any) -> jax.Array:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.array([jnp.isfinite(leaf).all() for leaf in floats]).all()


def _all_finite(tree: Any) -> bool:
    return bool(np.asarray(_finite(tree)))


def _end_epoch(
    step: int,
    state: S,
    evaluate: Callable[[Any], dict[str, float]] | None,
    checkpoints: Checkpoints,
    writer: RunWriter,
    settings: LoopSettings,
    record: Record,
) -> S:
    """Evaluate, note the figures in ``record``, keep the best; returns the state for the next."""
    epoch = step // settings.steps_per_epoch
    figures: dict[str, float] = {"epoch": epoch, "step": step, **state.metrics.figures()}
    if evaluate is not None:
        figures |= evaluate(state.variables)
    figures = as_first(figures)
    loss = figures.get("val_loss", 0.0)
    if not np.isfinite(loss):
        raise _diverged(f"the validation loss became {loss}", step, checkpoints, settings)
    if figures["loss"] > settings.most_loss:
        problem = f"the mean training loss became {figures['loss']:.3g}"
        raise _diverged(problem, step, checkpoints, settings)
    record["history"].append(figures)
    last = epoch == settings.epochs or _ends_collapsed(epoch, record["history"], settings)
    if settings.monitor == "last" or settings.monitored not in figures:
        better = last
    else:
        value = figures[settings.monitored]
        better = record["best_value"] is None or (
            value < record["best_value"]
            if settings.monitor == "loss"
            else value > record["best_value"]
        )
        if better:
            record["best_value"] = value
        waited = epoch - (epoch if better else record["best_epoch"] or 0)
        last = last or (settings.patience > 0 and waited >= settings.patience)
    if better:
        record["best_epoch"] = epoch
        checkpoints.save_best(step, state.variables)
    if best_robust_so_far(record["history"]):
        checkpoints.save_best(step, state.variables, "best_robust")
    record["finished"] = last
    writer.epoch(figures, record["history"], settings.epochs)
    # Put like the old ones, so that the next update finds the compiled program of the last.
    zeros = jax.tree.map(_zeros_like, state.metrics)
    return dataclasses.replace(state, metrics=zeros)  # type: ignore[type-var]


def _ends_collapsed(epoch: int, history: History, settings: LoopSettings) -> bool:
    """Say that the epoch overfitted catastrophically, where it did; whether that ends the run."""
    if not collapsed(history):
        return False
    now = history[-1]
    _LOG.warning(
        "catastrophic overfitting in epoch %d: accuracy under the training attack is %.1f %%, but "
        "under PGD it fell from %.1f %% to %.1f %%; checkpoints/best_robust keeps an epoch before. "
        "Train against more steps or a smaller epsilon.%s",
        epoch,
        100 * now["attack_accuracy"],
        100 * best_before(history),
        100 * now["robust_accuracy"],
        " The training ends here." if settings.stop_collapsed else "",
    )
    return settings.stop_collapsed


def _zeros_like(array: jax.Array) -> jax.Array:
    return jax.device_put(jnp.zeros_like(array), array.sharding)

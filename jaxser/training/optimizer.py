"""The optimiser of a training run: Adam, its schedules of the learning rate, and what decays.

optimizer = make_optimizer(config.training, steps_per_epoch)
rate = learning_rate_at(config.training, steps_per_epoch, step=120, history=record["history"])
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxser.config import TrainingConfig

__all__ = ["learning_rate_at", "make_optimizer", "plateau_rate", "with_plateau_rate"]

_PLATEAU_DELTA = 1e-4


def make_optimizer(
    config: TrainingConfig, steps_per_epoch: int, blocks: int = 0
) -> optax.GradientTransformation:
    """Adam with the configured schedule; weight decay is an L2 penalty, as torch's Adam has it.

    Under the plateau schedule the rate is part of the optimiser's state, see
    :func:`with_plateau_rate`.

    Args:
      config: of the run.
      steps_per_epoch: batches; an update is made of ``config.accumulate`` of them, or so many
        updates of each as ``config.adversarial.replays`` says.
      blocks: of the transformer, for ``config.layer_decay``.
    """
    if config.schedule == "plateau":
        # The host changes the rate between epochs; as a part of the state it recompiles nothing.
        adam = optax.inject_hyperparams(optax.adam)(learning_rate=config.learning_rate)
    else:
        adam = optax.adam(_schedule(config, _updates_per_epoch(config, steps_per_epoch)))
    parts = [adam]
    if config.weight_decay > 0:
        parts.insert(0, optax.add_decayed_weights(config.weight_decay))
    if config.layer_decay < 1:
        parts.append(optax.stateless(functools.partial(_decay_layers, config.layer_decay, blocks)))
    optimizer = optax.chain(*parts) if len(parts) > 1 else adam
    if config.accumulate == 1:
        return optimizer
    return optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()


def _decay_layers(decay: float, blocks: int, updates: Any, params: Any) -> Any:
    """Updates times ``decay`` for every block between them and the head (Clark et al., ELECTRA)."""
    del params

    def scaled(path: Any, update: Array) -> Array:
        return update * decay ** (blocks + 1 - _height([part.key for part in path], blocks))

    return jax.tree_util.tree_map_with_path(scaled, updates)


def _height(path: Sequence[str], blocks: int) -> int:
    """How many blocks up a parameter is: 0 below the first, ``blocks + 1`` in the head."""
    if path[0] == "head":
        return blocks + 1
    block = next((part for part in path if part.startswith("layer")), "")
    number = block.removeprefix("layer")
    return int(number) + 1 if number.isdigit() else 0


def _updates_per_epoch(config: TrainingConfig, steps_per_epoch: int) -> int:
    return max(steps_per_epoch * config.adversarial.replays // config.accumulate, 1)


def _schedule(config: TrainingConfig, steps_per_epoch: int) -> optax.Schedule:
    total = max(config.epochs * steps_per_epoch - config.warmup_steps, 1)
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(config.learning_rate, total)
    elif config.schedule == "step":
        main = optax.exponential_decay(
            config.learning_rate,
            config.decay_epochs * steps_per_epoch,
            config.decay,
            staircase=True,
        )
    else:
        main = optax.constant_schedule(config.learning_rate)
    if config.warmup_steps == 0:
        return main
    warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([warmup, main], [config.warmup_steps])


def learning_rate_at(
    config: TrainingConfig,
    steps_per_epoch: int,
    step: int,
    history: Sequence[Mapping[str, float]],
) -> float:
    """Learning rate of an update.

    Args:
      config: of the run.
      steps_per_epoch: batches.
      step: of the batch, counted from 1.
      history: figures of the epochs that ended before it.
    """
    if config.schedule == "plateau":
        return plateau_rate(config, [figures["val_loss"] for figures in history])
    schedule = _schedule(config, _updates_per_epoch(config, steps_per_epoch))
    # Optimisers count their updates from 0, each of so many batches.
    return float(schedule(max(step * config.adversarial.replays // config.accumulate - 1, 0)))


def plateau_rate(config: TrainingConfig, val_losses: Sequence[float]) -> float:
    """Learning rate after epochs with these validation losses.

    It is multiplied by ``decay`` after ``decay_epochs`` epochs in a row that did not lower the
    loss by 1e-4, as Keras' ReduceLROnPlateau does.
    """
    rate, best, waited = config.learning_rate, float("inf"), 0
    for loss in val_losses:
        if loss < best - _PLATEAU_DELTA:
            best, waited = loss, 0
            continue
        waited += 1
        if waited >= config.decay_epochs:
            rate, waited = rate * config.decay, 0
    return rate


def with_plateau_rate(
    state: Any, config: TrainingConfig, history: Sequence[Mapping[str, float]]
) -> Any:
    """A train state with the learning rate that follows from the epochs so far."""
    rate = plateau_rate(config, [figures["val_loss"] for figures in history])

    def replaced(path: Any, leaf: Array) -> Array:
        if "'learning_rate'" not in jax.tree_util.keystr(path):
            return leaf
        return jax.device_put(jnp.asarray(rate, leaf.dtype), leaf.sharding)

    opt_state = jax.tree_util.tree_map_with_path(replaced, state.opt_state)
    return state.replace(opt_state=opt_state)

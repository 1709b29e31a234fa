"""Pure steps that train a victim: Adam on (weighted) cross-entropy.

    optimizer = make_optimizer(config.training, steps_per_epoch)
    state = init_state(model, optimizer, key, (num_samples,), num_classes)
    state = jax.jit(make_train_step(model, optimizer, key))(state, batch)

Source: STAA-Net (arXiv 2402.01227), section 4.3, trains its victims so.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxser.config import TrainingConfig
from jaxser.results.metrics import accuracy, uar
from jaxser.victims.victim import evaluation_logits

__all__ = [
    "Augmentation",
    "EpochMetrics",
    "TrainState",
    "class_weights",
    "init_state",
    "learning_rate_at",
    "make_evaluation_step",
    "make_optimizer",
    "make_train_step",
    "mix_pairs",
    "plateau_rate",
    "with_plateau_rate",
]

Batch = dict[str, Array]
Augmentation = Callable[[jax.Array, Any, Array], Array]

_PLATEAU_DELTA = 1e-4


@flax.struct.dataclass
class EpochMetrics:
    """Sums since the start of the epoch, kept on the device so that no step waits for the host.

    Attributes:
      loss: summed over steps.
      steps: taken.
      confusion: ``[classes, classes]`` counts, truth along rows.
    """

    loss: Float[Array, ""]
    steps: Int[Array, ""]
    confusion: Int[Array, "classes classes"]

    @classmethod
    def zeros(cls, num_classes: int) -> "EpochMetrics":
        return cls(
            loss=jnp.zeros((), jnp.float32),
            steps=jnp.zeros((), jnp.int32),
            confusion=jnp.zeros((num_classes, num_classes), jnp.int32),
        )

    def figures(self) -> dict[str, float]:
        """Training loss, accuracy and UAR so far in the epoch."""
        confusion = np.asarray(self.confusion)
        return {
            "loss": float(self.loss) / max(int(self.steps), 1),
            "accuracy": float(accuracy(confusion)),
            "uar": float(uar(confusion)),
        }


@flax.struct.dataclass
class TrainState:
    """All that a step changes, and the parameters that it does not.

    Attributes:
      step: batches so far.
      params: that are trained.
      frozen: groups of parameters that are not.
      batch_stats: of the model.
      opt_state: of the optimiser.
      metrics: of the epoch.
    """

    step: Int[Array, ""]
    params: Any
    frozen: Any
    batch_stats: Any
    opt_state: optax.OptState
    metrics: EpochMetrics

    @property
    def variables(self) -> dict[str, Any]:
        """What the victim is applied with."""
        variables = {"params": {**self.params, **self.frozen}}
        # A module without statistics has no such collection.
        return {**variables, "batch_stats": self.batch_stats} if self.batch_stats else variables


def make_optimizer(
    config: TrainingConfig, steps_per_epoch: int, blocks: int = 0
) -> optax.GradientTransformation:
    """Adam with the configured schedule; weight decay is an L2 penalty, as torch's Adam has it.

    Under the plateau schedule the rate is part of the optimiser's state, see
    :func:`with_plateau_rate`.

    Args:
      config: of the run.
      steps_per_epoch: batches; an update is made of ``config.accumulate`` of them.
      blocks: of the transformer, for ``config.layer_decay``.
    """
    if config.schedule == "plateau":
        # The host changes the rate between epochs; as a part of the state it recompiles nothing.
        adam = optax.inject_hyperparams(optax.adam)(learning_rate=config.learning_rate)
    else:
        adam = optax.adam(_schedule(config, max(steps_per_epoch // config.accumulate, 1)))
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
    schedule = _schedule(config, max(steps_per_epoch // config.accumulate, 1))
    # Optimisers count their updates from 0, each of so many batches.
    return float(schedule(max(step // config.accumulate - 1, 0)))


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
    state: "TrainState", config: TrainingConfig, history: Sequence[Mapping[str, float]]
) -> "TrainState":
    """``state`` with the learning rate that follows from the epochs so far."""
    rate = plateau_rate(config, [figures["val_loss"] for figures in history])

    def replaced(path: Any, leaf: Array) -> Array:
        if "'learning_rate'" not in jax.tree_util.keystr(path):
            return leaf
        return jax.device_put(jnp.asarray(rate, leaf.dtype), leaf.sharding)

    opt_state = jax.tree_util.tree_map_with_path(replaced, state.opt_state)
    return state.replace(opt_state=opt_state)  # type: ignore[attr-defined]


def class_weights(
    labels: Int[np.ndarray, " rows"], num_classes: int
) -> Float[np.ndarray, " classes"]:
    """Inverse class frequencies with mean 1 over the rows: n / (classes · n_class)."""
    counts = np.bincount(labels, minlength=num_classes)
    return (len(labels) / (num_classes * np.maximum(counts, 1))).astype(np.float32)


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    input_shape: tuple[int, ...],
    num_classes: int,
    statistics: Mapping[str, Any] | None = None,
    pretrained: Mapping[str, Any] | None = None,
    frozen: Sequence[str] = (),
) -> TrainState:
    """Fresh parameters and optimiser state for inputs ``[batch, *input_shape]``.

    Args:
      model: the victim's module.
      optimizer: from :func:`make_optimizer`.
      key: of the initialisation.
      input_shape: of one input; ``(samples,)`` for waveforms.
      num_classes: of the victim.
      statistics: of the front end (``fit_statistics``), where the model has one.
      pretrained: variables to begin with instead of fresh ones.
      frozen: groups of parameters that are not trained.
    """
    variables = pretrained
    if variables is None:
        initialise = jax.jit(model.init, static_argnames="train")
        variables = initialise(key, jnp.zeros((1, *input_shape), jnp.float32), train=False)
    params = {name: group for name, group in variables["params"].items() if name not in frozen}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        frozen={name: variables["params"][name] for name in frozen},
        batch_stats={**variables.get("batch_stats", {}), **(statistics or {})},
        opt_state=optimizer.init(params),
        metrics=EpochMetrics.zeros(num_classes),
    )


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    weights: Float[np.ndarray, " classes"] | None = None,
    mixup: float = 0.0,
    augmentation: Augmentation | None = None,
) -> Callable[[TrainState, Batch], TrainState]:
    """The update ``(state, {"x": [batch, ...], "y": [batch]}) -> state``; jit and donate it.

    Args:
      model: ``apply(variables, x, train=True, mutable=["batch_stats"])``.
      optimizer: from :func:`make_optimizer`.
      key: of dropout and mixup; each step folds its number in.
      weights: per class. The loss is then divided by the batch's summed weight, as torch does.
      mixup: alpha of :func:`mix_pairs`; 0 trains on the utterances as they are.
      augmentation: ``(key, batch_stats, inputs) -> inputs``, of the kind that the model reads; None
        for none.
    """

    def step(state: TrainState, batch: Batch) -> TrainState:
        # Of the step's number, so that a run that was interrupted draws what one in a piece draws.
        step_key = jax.random.fold_in(key, state.step)
        x, partner, share = batch["x"], batch["y"], None
        if mixup > 0:
            x, order, share = mix_pairs(jax.random.fold_in(step_key, 1), x, mixup)
            partner = batch["y"][order]
        if augmentation is not None:
            x = augmentation(jax.random.fold_in(step_key, 2), state.batch_stats, x)

        def loss_of(params: Any) -> tuple[Array, tuple[Array, Any]]:
            logits, updated = model.apply(
                {"params": {**params, **state.frozen}, "batch_stats": state.batch_stats},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": step_key},
            )
            if share is None:
                loss = mean_cross_entropy(logits, batch["y"], weights)
            else:
                loss = mean_cross_entropy(logits, batch["y"], weights, share)
                loss += mean_cross_entropy(logits, partner, weights, 1.0 - share)
            return loss, (logits, updated.get("batch_stats", {}))

        gradient_of = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (logits, batch_stats)), gradients = gradient_of(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        return TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            frozen=state.frozen,
            batch_stats=batch_stats,
            opt_state=opt_state,
            metrics=_accumulate(state.metrics, loss, logits, batch["y"]),
        )

    return step


def mix_pairs(
    key: jax.Array, x: Float[Array, "batch time"], alpha: float
) -> tuple[Float[Array, "batch time"], Int[Array, " batch"], Float[Array, " batch"]]:
    """Mixup (Zhang et al., ICLR 2018, equation 1) of utterances of equal loudness.

    Every utterance is brought to deviation 1, so that the shares are those that the victim hears
    (its own normalisation comes after), and gets a random partner of the batch.

    Args:
      key: of the partners and shares.
      x: waveforms.
      alpha: both parameters of the Beta distribution of the shares.

    Returns:
      The mixtures, each row's partner, and each row's own share, at least a half.
    """
    partners, amounts = jax.random.split(key)
    deviation = x.std(axis=1, keepdims=True)
    x = x / jnp.where(deviation > 0, deviation, 1.0)
    order = jax.random.permutation(partners, x.shape[0])
    share = jax.random.beta(amounts, alpha, alpha, (x.shape[0],), jnp.float32)
    share = jnp.maximum(share, 1.0 - share)
    return share[:, None] * x + (1.0 - share[:, None]) * x[order], order, share


def mean_cross_entropy(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    weights: Float[np.ndarray, " classes"] | None = None,
    shares: Float[Array, " batch"] | None = None,
) -> Float[Array, ""]:
    """Cross-entropy averaged over the batch, by class weight and times ``shares`` where given."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if shares is not None:
        losses = losses * shares
    if weights is None:
        return losses.mean()
    row_weights = jnp.asarray(weights)[labels]
    return (losses * row_weights).sum() / row_weights.sum()


def make_evaluation_step(
    model: nn.Module,
) -> Callable[[Any, Batch], tuple[Float[Array, " batch"], Float[Array, "batch classes"]]]:
    """``(variables, batch) -> (cross-entropy of each row, its logits)``."""

    logits_of = evaluation_logits(model)

    def step(variables: Any, batch: Batch) -> tuple[Array, Array]:
        logits = logits_of(variables, batch["x"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
        return losses, logits

    return step


def _accumulate(metrics: EpochMetrics, loss: Array, logits: Array, labels: Array) -> EpochMetrics:
    return EpochMetrics(
        loss=metrics.loss + loss,
        steps=metrics.steps + 1,
        confusion=metrics.confusion.at[labels, logits.argmax(-1)].add(1),
    )

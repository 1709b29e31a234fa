"""Pure steps that train a victim: Adam on (weighted) cross-entropy.

    optimizer = make_optimizer(config.training, steps_per_epoch)     # of training.optimizer
    state = init_state(model, optimizer, key, (num_samples,), num_classes)
    state = jax.jit(make_train_step(model, optimizer, key))(state, batch)

Source: STAA-Net (arXiv 2402.01227), section 4.3, trains its victims so.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxser.results.metrics import accuracy, uar
from jaxser.victims.victim import evaluation_logits

__all__ = [
    "AUGMENTATION",
    "NOISE",
    "Augmentation",
    "Batch",
    "EpochMetrics",
    "TrainState",
    "class_weights",
    "init_state",
    "make_evaluation_step",
    "make_train_step",
    "mean_cross_entropy",
    "mix_pairs",
    "training_logits",
    "updated",
    "weighted_mean",
    "with_noise",
]

Batch = dict[str, Array]
Augmentation = Callable[[jax.Array, Any, Array], Array]

# What a step's key is folded with for each of its draws; dropout has the key itself.
_MIXUP, AUGMENTATION, NOISE = 1, 2, 3


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
    noise: float = 0.0,
) -> Callable[[TrainState, Batch], TrainState]:
    """The update ``(state, {"x": [batch, ...], "y": [batch]}) -> state``; jit and donate it.

    Args:
      model: ``apply(variables, x, train=True, mutable=["batch_stats"])``.
      optimizer: from :func:`make_optimizer`.
      key: of dropout, mixup and noise; each step folds its number in.
      weights: per class. The loss is then divided by the batch's summed weight, as torch does.
      mixup: alpha of :func:`mix_pairs`; 0 trains on the utterances as they are.
      augmentation: ``(key, batch_stats, inputs) -> inputs``, of the kind that the model reads; None
        for none.
      noise: standard deviation of Gaussian noise on every input, before anything else.
    """

    def step(state: TrainState, batch: Batch) -> TrainState:
        # Of the step's number, so that a run that was interrupted draws what one in a piece draws.
        step_key = jax.random.fold_in(key, state.step)
        x, partner, share = batch["x"], batch["y"], None
        if noise > 0:
            x = with_noise(jax.random.fold_in(step_key, NOISE), x, noise)
        if mixup > 0:
            x, order, share = mix_pairs(jax.random.fold_in(step_key, _MIXUP), x, mixup)
            partner = batch["y"][order]
        if augmentation is not None:
            x = augmentation(jax.random.fold_in(step_key, AUGMENTATION), state.batch_stats, x)

        def loss_of(params: Any) -> tuple[Array, tuple[Array, Any]]:
            logits, batch_stats = training_logits(model, state, params, x, step_key)
            if share is None:
                loss = mean_cross_entropy(logits, batch["y"], weights)
            else:
                loss = mean_cross_entropy(logits, batch["y"], weights, share)
                loss += mean_cross_entropy(logits, partner, weights, 1.0 - share)
            return loss, (logits, batch_stats)

        gradient_of = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (logits, batch_stats)), gradients = gradient_of(state.params)
        return updated(optimizer, state, gradients, loss, logits, batch["y"], batch_stats)

    return step


def training_logits(
    model: nn.Module, state: TrainState, params: Any, x: Float[Array, "batch ..."], key: jax.Array
) -> tuple[Float[Array, "batch classes"], Any]:
    """(logits in training mode, statistics after it).

    Args:
      model: the victim's module.
      state: its frozen parameters and its statistics are used.
      params: that are trained.
      x: inputs.
      key: of dropout.
    """
    logits, changed = model.apply(
        {"params": {**params, **state.frozen}, "batch_stats": state.batch_stats},
        x,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": key},
    )
    return logits, changed.get("batch_stats", {})


def updated(
    optimizer: optax.GradientTransformation,
    state: TrainState,
    gradients: Any,
    loss: Float[Array, ""],
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    batch_stats: Any,
) -> TrainState:
    """``state`` after an update, with the figures of its batch."""
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    return TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        frozen=state.frozen,
        batch_stats=batch_stats,
        opt_state=opt_state,
        metrics=_accumulate(state.metrics, loss, logits, labels),
    )


def with_noise(
    key: jax.Array, x: Float[Array, "batch ..."], deviation: float
) -> Float[Array, "batch ..."]:
    """``x`` with independent Gaussian noise on every number."""
    return x + deviation * jax.random.normal(key, x.shape, x.dtype)


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
    return weighted_mean(losses if shares is None else losses * shares, labels, weights)


def weighted_mean(
    losses: Float[Array, " batch"],
    labels: Int[Array, " batch"],
    weights: Float[np.ndarray, " classes"] | None = None,
) -> Float[Array, ""]:
    """Mean of the rows' losses, by the weights of their classes where given."""
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

"""The step that trains a victim against an attack: the attack and the update in one program.

    defence = Defence(PGD(steps=10), inputs=lambda variables, x: x)
    step = jax.jit(step_of(adversarial_parts(model, optimizer, key, defence)))
    state = step(state, batch, jnp.array([0.002, 0.002]))      # lowest and highest ε

The attack runs on the parameters as they are, in evaluation mode unless asked otherwise. ε, labels
and keys are traced. A row's randomness is of the seed, the step and the row, so that a run which
was interrupted ends as one in a piece.

Sources: Madry et al., ICLR 2018; TRADES and MART, see :mod:`jaxser.training.robust_losses`; weights
that are perturbed: Wu et al., NeurIPS 2020; free training: Shafahi et al., NeurIPS 2019, here from
a random start in every batch.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, Shaped

from jaxser.attacks import Attack
from jaxser.attacks.base import LogitsFn, row_keys
from jaxser.attacks.projections import clip_to_bounds, per_row, project_linf, random_linf
from jaxser.training.robust_losses import divergence_logits, mart_loss, trades_loss
from jaxser.training.victim import (
    AUGMENTATION,
    NOISE,
    Augmentation,
    Batch,
    TrainState,
    mean_cross_entropy,
    training_logits,
    updated,
    weighted_mean,
    with_noise,
)

__all__ = [
    "AdversarialParts",
    "Attacked",
    "Defence",
    "adversarial_parts",
    "attacked_rows",
    "step_of",
]

# What a step's key is folded with; smaller numbers are those of usual training.
_BUDGET, _ATTACK, _VICTIM, _ATTACKED_PASS, _REPLAY = 4, 5, 6, 7, 8

_LOSSES = {"trades": trades_loss, "mart": mart_loss}


@dataclasses.dataclass(frozen=True, eq=False)
class Defence:
    """What a victim is trained against, and how.

    Attributes:
      attack: with ε in the units of what ``inputs`` returns.
      inputs: ``(variables, x) -> x`` in the domain that is attacked, of the batch's inputs.
      share: of the rows of a batch that are attacked; TRADES and MART take all.
      warmup_steps: batches over which ε grows from 0.
      loss: cross-entropy of attacked and other rows, or one that compares a row with itself.
      beta: weight of the robust term of TRADES and MART.
      awp: size of the perturbation of the weights, relative to theirs.
      batch_norm: mode of the victim while it is attacked.
      replays: updates on every batch; more than 1 is free training.
    """

    attack: Attack
    inputs: Callable[[Any, Array], Array]
    share: float = 1.0
    warmup_steps: int = 0
    loss: Literal["adversarial", "trades", "mart"] = "adversarial"
    beta: float = 6.0
    awp: float = 0.0
    batch_norm: Literal["evaluation", "training"] = "evaluation"
    replays: int = 1


def attacked_rows(batch: int, share: float) -> int:
    """How many rows of a batch are attacked, at least one."""
    return max(1, round(share * batch))


@dataclasses.dataclass(frozen=True, eq=False)
class AdversarialParts:
    """What a step is made of: ``finish(state, batch, at)`` after ``steps`` of ``advance``.

    Attributes:
      begin: ``(state, batch, lowest and highest ε) -> at``, the attack before its first step.
      advance: ``(state, at, number of the step, from 0) -> at``.
      finish: ``(state, batch, at) -> state``, the update.
      steps: of the attack; 0 of one that an update's own backward pass moves.
    """

    begin: Callable[[TrainState, Batch, Float[Array, "2"]], "Attacked"]
    advance: Callable[[TrainState, "Attacked", int | Int[Array, ""]], "Attacked"]
    finish: Callable[[TrainState, Batch, "Attacked"], TrainState]
    steps: int


@flax.struct.dataclass
class Attacked:
    """A batch on its way through the attack; every leaf has the rows first.

    Attributes:
      x: inputs in the domain that is attacked, of all rows.
      attack: state of the attack, of the rows that it is on.
      log_p: of TRADES: what those are taken for; else None.
      budget: ε of each of those.
    """

    x: Shaped[Array, "batch ..."]
    attack: Any
    log_p: Float[Array, "rows classes"] | None
    budget: Float[Array, " rows"]


def step_of(
    parts: AdversarialParts,
) -> Callable[[TrainState, Batch, Float[Array, "2"]], TrainState]:
    """``(state, {"x": [batch, ...], "y": [batch]}, lowest and highest ε) -> state``; jit, donate.

    On a CPU :func:`jaxser.training.adversarial_update.adversarial_update` is many times as fast.
    """

    def step(state: TrainState, batch: Batch, epsilon: Float[Array, "2"]) -> TrainState:
        at = parts.begin(state, batch, epsilon)
        if parts.steps == 1:
            at = parts.advance(state, at, 0)
        elif parts.steps:
            at = jax.lax.fori_loop(
                0, parts.steps, lambda number, at: parts.advance(state, at, number), at
            )
        return parts.finish(state, batch, at)

    return step


def adversarial_parts(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    defence: Defence,
    weights: Float[np.ndarray, " classes"] | None = None,
    augmentation: Augmentation | None = None,
    noise: float = 0.0,
) -> AdversarialParts:
    """What a step is made of.

    Args are those of :func:`jaxser.training.victim.make_train_step`, and ``defence``. What an
    augmentation returns is attacked as it is.
    """

    def begin(state: TrainState, batch: Batch, epsilon: Float[Array, "2"]) -> Attacked:
        step_key = jax.random.fold_in(key, state.step)
        x = batch["x"]
        if noise > 0:
            x = with_noise(jax.random.fold_in(step_key, NOISE), x, noise)
        if augmentation is not None:
            x = augmentation(jax.random.fold_in(step_key, AUGMENTATION), state.batch_stats, x)
        else:
            x = defence.inputs(state.variables, x)
        chosen, _ = _split(x, defence.share)
        labels, _ = _split(batch["y"], defence.share)
        budget = _budgets(defence, step_key, state.step, epsilon, len(labels))
        if defence.replays > 1:
            return Attacked(x=x, attack=None, log_p=None, budget=budget)
        keys = _attack_keys(step_key, len(labels))
        plain, log_p = _plain_logits(model, defence, state, key), None
        if defence.loss == "trades":
            log_p = jax.lax.stop_gradient(jax.nn.log_softmax(plain(0)(chosen).astype(jnp.float32)))
            labels = jnp.zeros_like(labels)
        logits_fn = _ascended(plain(0), log_p)
        attack = defence.attack.init(logits_fn, keys, chosen, labels, budget)
        return Attacked(x=x, attack=attack, log_p=log_p, budget=budget)

    def advance(state: TrainState, at: Attacked, number: int | Int[Array, ""]) -> Attacked:
        plain = _plain_logits(model, defence, state, key)
        attack = defence.attack.step(_ascended(plain(number + 1), at.log_p), at.attack)
        return at.replace(attack=attack)  # type: ignore[attr-defined]

    def finish(state: TrainState, batch: Batch, at: Attacked) -> TrainState:
        step_key, y = jax.random.fold_in(key, state.step), batch["y"]
        chosen, others = _split(at.x, defence.share)

        def loss_of(
            params: Any, x_adv: Array, state: TrainState, dropout: jax.Array
        ) -> tuple[Array, tuple[Array, Any]]:
            if defence.loss == "adversarial":
                logits, stats = training_logits(model, state, params, _join(x_adv, others), dropout)
                return mean_cross_entropy(logits, y, weights), (logits, stats)
            clean, stats = training_logits(model, state, params, at.x, dropout)
            between = state.replace(batch_stats=stats)  # type: ignore[attr-defined]
            other = jax.random.fold_in(dropout, _ATTACKED_PASS)
            logits, stats = training_logits(model, between, params, x_adv, other)
            rows = _LOSSES[defence.loss](clean, logits, y, defence.beta)
            return weighted_mean(rows, y, weights), (logits, stats)

        if defence.replays > 1:
            labels, _ = _split(y, defence.share)
            rows = (chosen, labels, _attack_keys(step_key, len(labels)), at.budget)
            return _replayed(defence, optimizer, loss_of, state, step_key, rows)
        x_adv = jax.lax.stop_gradient(at.attack.x_adv)
        params = state.params
        if defence.awp > 0:
            ascent, _ = jax.grad(loss_of, has_aux=True)(params, x_adv, state, step_key)
            params = _worse(params, ascent, defence.awp)
        gradient_of = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (logits, stats)), gradients = gradient_of(params, x_adv, state, step_key)
        return updated(optimizer, state, gradients, loss, logits, y, stats)

    steps = 0 if defence.replays > 1 else defence.attack.max_steps
    return AdversarialParts(begin, advance, finish, steps)


def _attack_keys(step_key: jax.Array, rows: int) -> Key[Array, " rows"]:
    return row_keys(jax.random.fold_in(step_key, _ATTACK), jnp.arange(rows, dtype=jnp.uint32))


def _plain_logits(
    model: nn.Module, defence: Defence, state: TrainState, key: jax.Array
) -> Callable[[int | Int[Array, ""]], LogitsFn]:
    """The victim's logits in a step of the attack, by its number."""
    variables = jax.lax.stop_gradient(state.variables)
    victim_key = jax.random.fold_in(jax.random.fold_in(key, state.step), _VICTIM)

    def plain(step: int | Int[Array, ""]) -> LogitsFn:
        def logits(x: Array) -> Any:
            if defence.batch_norm == "evaluation":
                return model.apply(variables, x, train=False)
            dropout = {"dropout": jax.random.fold_in(victim_key, step)}
            return model.apply(variables, x, train=True, mutable=["batch_stats"], rngs=dropout)[0]

        return logits

    return plain


def _ascended(logits_fn: LogitsFn, log_p: Float[Array, "rows classes"] | None) -> LogitsFn:
    """What the attack ascends: of TRADES the divergence from what clean rows are taken for."""
    return logits_fn if log_p is None else divergence_logits(logits_fn, log_p)


def _split(values: Shaped[Array, "batch ..."], share: float) -> tuple[Array, Array]:
    """Rows that are attacked, and the others.

    They take turns in groups of equal length, so that devices which share a batch have as many of
    each and need not exchange any.
    """
    count = attacked_rows(len(values), share)
    groups = math.gcd(count, len(values))
    grouped = values.reshape(groups, -1, *values.shape[1:])
    chosen, others = jnp.split(grouped, [count // groups], axis=1)
    return chosen.reshape(-1, *values.shape[1:]), others.reshape(-1, *values.shape[1:])


def _join(chosen: Shaped[Array, "chosen ..."], others: Shaped[Array, "others ..."]) -> Array:
    """The batch again, in its order."""
    groups = math.gcd(len(chosen), len(others))
    parts = [part.reshape(groups, -1, *part.shape[1:]) for part in (chosen, others) if len(part)]
    return jnp.concatenate(parts, axis=1).reshape(-1, *chosen.shape[1:])


def _budgets(
    defence: Defence,
    step_key: jax.Array,
    step: Int[Array, ""],
    epsilon: Float[Array, "2"],
    rows: int,
) -> Float[Array, " rows"]:
    """ε of each row: drawn between the two, smaller while it grows."""
    keys = row_keys(jax.random.fold_in(step_key, _BUDGET), jnp.arange(rows, dtype=jnp.uint32))
    drawn = epsilon[0] + jax.vmap(jax.random.uniform)(keys) * (epsilon[1] - epsilon[0])
    if not defence.warmup_steps:
        return drawn
    # As a float: more steps than an int32 counts are none too many to never reach.
    return drawn * jnp.minimum(step.astype(jnp.float32) / float(defence.warmup_steps), 1.0)


def _worse(params: Any, ascent: Any, size: float) -> Any:
    """Parameters moved along the gradient, each matrix or kernel by a share of its own norm."""

    def moved(weight: Array, gradient: Array) -> Array:
        if weight.ndim < 2:
            return weight
        norm = jnp.linalg.norm(gradient)
        return weight + size * jnp.linalg.norm(weight) * gradient / jnp.where(norm > 0, norm, 1.0)

    return jax.tree.map(moved, params, ascent)


def _replayed(
    defence: Defence,
    optimizer: optax.GradientTransformation,
    loss_of: Callable[..., Any],
    state: TrainState,
    step_key: jax.Array,
    rows: tuple[Array, Array, Array, Array],
) -> TrainState:
    """Updates on one batch; each backward pass moves the parameters and the perturbation."""
    x, y, keys, epsilon = rows
    delta, after = random_linf(keys, epsilon, x), state
    gradient_of = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)
    for replay in range(defence.replays):
        x_adv = clip_to_bounds(x + delta, x, defence.attack.bounds)
        dropout = jax.random.fold_in(step_key, _REPLAY + replay)
        (loss, (logits, stats)), (gradients, ascent) = gradient_of(
            after.params, x_adv, after, dropout
        )
        after = updated(optimizer, after, gradients, loss, logits, y, stats)
        delta = project_linf(delta + per_row(epsilon, x) * jnp.sign(ascent), epsilon)
    # Counted in batches: a run finds its place in the data by it.
    return after.replace(step=state.step + 1)  # type: ignore[attr-defined]

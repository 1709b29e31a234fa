"""JSMA: the Jacobian saliency map attack, which moves two samples at a time.

    attack = JSMA(theta=0.5, gamma=0.1)                 # raise pairs of samples by 0.5
    attack = JSMA(theta=-1.0, target="random")          # lower them, towards a random class
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[100, 1000])

Source: Papernot et al., EuroS&P 2016, algorithms 2 and 3. It is the version with the forward
derivative of the logits (section IV-B). A step raises (or lowers) by θ the two samples whose
saliency is largest: with ``a_i`` the derivative of the target's logit and ``b_i`` that of the sum
of all other logits, the saliency of a pair is ``-(a_p + a_q)(b_p + b_q)`` where the first sum is
positive and the second negative.

The best of all N(N - 1)/2 pairs is found exactly (but for float32 rounding) in a few passes over
the N samples, see :func:`best_pair`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from jaxser.attacks.base import (
    NON_FINITE,
    ZERO_GRADIENT,
    AttackState,
    LogitsFn,
    MinimalNormAttack,
    extended,
    freeze_done,
    new_state,
    step_keys,
)
from jaxser.attacks.hyperparameters import check_at_most_one, check_choice, check_positive
from jaxser.attacks.losses import is_successful, other_logits, prediction
from jaxser.attacks.projections import Box, Norm, clip_to_bounds, per_row
from jaxser.attacks.sparse import SparseAttack

__all__ = ["JSMA", "JSMAState", "best_pair"]

# Weights of the sums that bound a pair's product in `best_pair`. Five spaced by a factor of two
# leave two to ten candidates of 32,000 on gradients of all the distributions that were tried.
_SLOPES = (0.25, 0.5, 1.0, 2.0, 4.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class JSMAState(AttackState):
    """State of the attack.

    Attributes:
      iterate: the input that the next step starts from.
      target: class that is made likelier.
    """

    iterate: Float[Array, "batch ..."]
    target: Int[Array, " batch"]


@dataclasses.dataclass(frozen=True)
class JSMA(MinimalNormAttack, SparseAttack):
    """Jacobian saliency map attack.

    It stops at the first adversarial iterate. The number of changed samples never falls on the
    way there and the way does not depend on ε, so one run serves every budget: the attack is a
    minimal-norm one, and ε is the number of samples that may change ("l0").

    A row ends without success when no pair is salient, when a move would change more than
    ``gamma`` of the samples, or after ``steps`` moves. Two backward passes per step: the target's
    logit and the sum of the others.

    Attributes:
      theta: what a move adds to a sample, in units of the input (not relative to the bounds);
        negative values lower samples. Samples at their bound, or ``amplitude`` away from where they
        were, are not chosen any more.
      gamma: largest share of samples that may change.
      steps: largest number of moves.
      target: class to go for in untargeted attacks: "second", the likeliest other class at the
        clean input, or "random", drawn from the row's key.
      compat: "art" ranks samples by the target logit's gradient alone and moves the best two, as
        ART's SaliencyMapMethod does; a row goes on until its target is predicted, also when
        untargeted, and keeps its last iterate where that never happens. One backward pass.

    Examples:
      A victim that asks whether four samples are loud in the mean. A move raises two by 0.1, until
      their sum, 0.2 to begin with, is over 0.6.

      >>> import numpy as np, jax.numpy as jnp
      >>> import jaxser
      >>> def logits_fn(x):
      ...     loudness = x.sum(axis=1)
      ...     return jnp.stack([0.6 - loudness, loudness - 0.6], axis=1)
      >>> x = np.float32([[0.05, 0.05, 0.05, 0.05]])
      >>> result = jaxser.run_attack(logits_fn, x, [0], jaxser.attacks.JSMA(), [1, 2])
      >>> result.success[:, 0].tolist(), result.found_norm[0, 0].item()
      ([False, True], 2.0)
    """

    name: ClassVar[str] = "jsma"

    theta: float = 0.1
    gamma: float = 1.0
    steps: int = 1000
    target: Literal["second", "random"] = "second"
    compat: Literal["art"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.name, theta=abs(self.theta), gamma=self.gamma, steps=self.steps)
        check_at_most_one(self.name, gamma=self.gamma)
        check_choice(self.name, "target", self.target, ("second", "random"))
        check_choice(self.name, "compat", self.compat, (None, "art"))

    @property
    def max_steps(self) -> int:
        """The moves, and a last look at where they led."""
        return self.steps + 1

    @property
    def epsilon_norm(self) -> Norm:
        return "l0"

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> JSMAState:
        """The clean input; the first step chooses the target, from logits it needs anyway."""
        state = new_state(keys, x, y, epsilon)
        return extended(state, JSMAState, iterate=x, target=y)

    def step(self, logits_fn: LogitsFn, state: JSMAState) -> JSMAState:
        """A look at the iterate, and a move of two samples where it is not adversarial yet."""
        logits, pull_back = jax.vjp(lambda x: logits_fn(x).astype(jnp.float32), state.iterate)
        target = jnp.where(state.steps == 0, self._chosen_target(state, logits), state.target)
        predicted = prediction(logits)
        if self.compat == "art":
            reached = is_successful(predicted, target, targeted=True)
        else:
            reached = is_successful(predicted, state.y, self.targeted)

        towards, against = self._derivatives(pull_back, logits, target)
        usable = jnp.isfinite(towards).all(axis=1) & jnp.isfinite(against).all(axis=1)
        usable &= predicted >= 0
        box = self.box(state.x)
        room = _room(state.iterate, self.theta, box).reshape(towards.shape)
        # Without the rows that are done or there, which would only keep the search for pairs going.
        allowed = room & (usable & ~reached & ~state.done)[:, None]
        if self.compat == "art":
            pair = largest_two(towards, allowed)
        else:
            pair = best_pair(towards, -against, allowed)
        moved = jnp.where(pair.reshape(state.x.shape), state.iterate + self.theta, state.iterate)
        moved = clip_to_bounds(moved, state.iterate, box)

        size = state.x[0].size
        if self.compat == "art":
            within = _changed(state.x, state.iterate) <= self.gamma * size
        else:
            within = _changed(state.x, moved) <= self.gamma * size
        goes_on = ~reached & pair.any(axis=1) & within & (state.steps + 1 < self.max_steps)
        iterate = jnp.where(per_row(goes_on, moved), moved, state.iterate)
        found = jnp.ones_like(reached) if self.compat == "art" else reached
        new = dataclasses.replace(
            state,
            x_adv=jnp.where(per_row(found, iterate), iterate, state.x_adv),
            iterate=iterate,
            target=target,
            done=~goes_on,
            steps=state.steps + 1,
            queries=state.queries + 1,
            gradients=state.gradients + (1 if self.compat == "art" else 2),
            flags=state.flags | _gradient_flags(towards, usable),
        )
        return freeze_done(state, new)

    def _chosen_target(
        self, state: JSMAState, logits: Float[Array, "batch classes"]
    ) -> Int[Array, " batch"]:
        """Class to go for, from the logits of the clean input."""
        if self.targeted:
            return state.y
        classes = logits.shape[1]
        if self.target == "second":
            return other_logits(logits, state.y).argmax(axis=1).astype(state.y.dtype)
        keys = step_keys(state.keys, jnp.zeros_like(state.steps))
        drawn = jax.vmap(lambda key: jax.random.randint(key, (), 0, classes - 1))(keys)
        return drawn + (drawn >= state.y)

    def _derivatives(
        self, pull_back: Callable[..., Any], logits: Array, target: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch samples"], Float[Array, "batch samples"]]:
        """Of the target's logit and of the sum of the others, along the sign of θ."""
        of_target = jax.nn.one_hot(target, logits.shape[1])
        sign = 1.0 if self.theta > 0 else -1.0
        if self.compat == "art":
            (towards,) = pull_back(sign * of_target)
            towards = towards.reshape(towards.shape[0], -1)
            return towards, jnp.zeros_like(towards)
        both = sign * jnp.stack([of_target, 1.0 - of_target])
        (found,) = jax.vmap(pull_back)(both)
        towards, against = found.reshape(2, found.shape[1], -1)
        return towards, against


def best_pair(
    first: Float[Array, "batch samples"],
    second: Float[Array, "batch samples"],
    allowed: Bool[Array, "batch samples"],
) -> Bool[Array, "batch samples"]:
    """The pair p ≠ q with the largest ``(first_p + first_q)(second_p + second_q)``, both sums > 0.

    True at the two samples of each row, or nowhere where no allowed pair has two positive sums.

    The search is exact. For any λ > 0 the product of the sums is at most ``((s_p + s_q) / 2)²``
    with ``s = λ first + second / λ`` (the arithmetic mean bounds the geometric), so no pair with
    p in it beats the bound in which q is replaced by the largest s of the others; the product of
    the two sums' own bounds is one more. Samples are taken in the order of their bounds, each with
    its best partner (one pass), until no bound is above the best product. A few samples are looked
    at in practice; only in the worst case all are.
    """
    first, second = _scaled(first, allowed), _scaled(second, allowed)
    columns = jnp.arange(first.shape[1])[None]
    slopes = jnp.asarray(_SLOPES, first.dtype)

    def tighten(index: Int[Array, ""], bound: Array) -> Array:
        mean = _best_sum(slopes[index] * first + second / slopes[index]) / 2
        return jnp.minimum(bound, jnp.square(jax.nn.relu(mean)))

    # A loop, because XLA's fusion of the unrolled bounds is ten times slower on CPU.
    loose = jax.nn.relu(_best_sum(first)) * jax.nn.relu(_best_sum(second))
    bound = jax.lax.fori_loop(0, len(_SLOPES), tighten, loose)

    def promising(carry: tuple[Array, Array, Array]) -> Bool[Array, ""]:
        bound, best, _ = carry
        return (bound.max(axis=1) > best).any()

    def look(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        bound, best, pair = carry
        candidate = _largest_column(bound)
        u = first + jnp.take_along_axis(first, candidate, axis=1)
        v = second + jnp.take_along_axis(second, candidate, axis=1)
        product = jnp.where((u > 0) & (v > 0) & (columns != candidate), u * v, 0.0)
        partner = _largest_column(product)
        value = jnp.take_along_axis(product, partner, axis=1)[:, 0]
        better = value > best
        found = jnp.concatenate([candidate, partner], axis=1)
        return (
            jnp.where(columns == candidate, -1.0, bound),
            jnp.where(better, value, best),
            jnp.where(better[:, None], found, pair),
        )

    start = (
        bound,
        jnp.zeros(first.shape[:1], first.dtype),
        jnp.full((first.shape[0], 2), -1, columns.dtype),
    )
    _, _, pair = jax.lax.while_loop(promising, look, start)
    return (columns == pair[:, :1]) | (columns == pair[:, 1:])


def largest_two(
    values: Float[Array, "batch samples"], allowed: Bool[Array, "batch samples"]
) -> Bool[Array, "batch samples"]:
    """True at the two largest allowed values of each row, fewer where fewer are allowed."""
    columns = jnp.arange(values.shape[1])[None]
    chosen = jnp.zeros_like(allowed)
    for _ in range(2):
        left = allowed & ~chosen
        best = _largest_column(jnp.where(left, values, -jnp.inf))
        chosen |= left & (columns == best)
    return chosen


def _scaled(
    values: Float[Array, "batch samples"], allowed: Bool[Array, "batch samples"]
) -> Float[Array, "batch samples"]:
    """Each row over its largest magnitude, since products of tiny gradients underflow; what is
    not allowed is minus infinity and beats nothing."""
    kept = jnp.where(allowed, values, 0.0)
    largest = jnp.abs(kept).max(axis=1, keepdims=True)
    return jnp.where(allowed, kept / jnp.where(largest > 0, largest, 1.0), -jnp.inf)


def _largest_column(values: Float[Array, "batch samples"]) -> Int[Array, "batch 1"]:
    """Where each row is largest; two plain reductions are four times as fast as argmax on CPU."""
    columns = jnp.arange(values.shape[1])[None]
    at = values == values.max(axis=1, keepdims=True)
    return jnp.where(at, columns, values.shape[1] - 1).min(axis=1, keepdims=True)


def _best_sum(values: Float[Array, "batch samples"]) -> Float[Array, "batch samples"]:
    """Each value plus the largest of the other values in its row."""
    largest = values.max(axis=1, keepdims=True)
    is_largest = values == largest
    second = jnp.where(is_largest, -jnp.inf, values).max(axis=1, keepdims=True)
    alone = is_largest.sum(axis=1, keepdims=True) == 1
    return values + jnp.where(is_largest & alone, second, largest)


def _room(x: Float[Array, "batch ..."], theta: float, bounds: Box) -> Bool[Array, "batch ..."]:
    """Samples that have not reached the bound they move to."""
    if bounds is None:
        return jnp.ones(x.shape, bool)
    return x < bounds[1] if theta > 0 else x > bounds[0]


def _changed(
    x: Float[Array, "batch ..."], iterate: Float[Array, "batch ..."]
) -> Int[Array, " batch"]:
    """Samples of each row that differ."""
    return (x != iterate).sum(axis=tuple(range(1, x.ndim)))


def _gradient_flags(
    towards: Float[Array, "batch samples"], usable: Bool[Array, " batch"]
) -> UInt[Array, " batch"]:
    """What has to be said about the row's gradient."""
    zero = usable & (towards == 0).all(axis=1)
    return (ZERO_GRADIENT * zero + NON_FINITE * ~usable).astype(jnp.uint32)

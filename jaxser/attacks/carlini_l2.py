"""Carlini & Wagner's L2 attack: the smallest squared distance, by a search for c.

    attack = CarliniL2(steps=200, binary_search_steps=6)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.1, 0.5])

Source: Carlini & Wagner, S&P 2017, section VI-A; see ``carlini`` for what the three attacks share.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.attacks.adam import reset_rows
from jaxser.attacks.base import AttackState, LogitsFn, extended, freeze_done, new_state
from jaxser.attacks.carlini import (
    Carlini,
    DescentState,
    attack_margin,
    check_compat,
    margin_gradient,
)
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.line_search import line_search
from jaxser.attacks.projections import Norm, per_row, row_sum
from jaxser.attacks.tanh_space import from_tanh, in_box, tanh_slope, to_tanh

__all__ = ["CarliniL2", "L2State", "LineSearchState"]

# ART gives a row up when its c has grown beyond this.
_LARGEST_CONST = 1e11


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class L2State(DescentState):
    """State of :class:`CarliniL2`.

    Attributes:
      search: how many values of c the row has tried.
      lower, upper: largest c that failed, and smallest that succeeded.
      clean_hinge: the hinge at x.
    """

    search: Int[Array, " batch"]
    lower: Float[Array, " batch"]
    upper: Float[Array, " batch"]
    clean_hinge: Float[Array, " batch"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LineSearchState(AttackState):
    """State of :class:`CarliniL2` with ``compat="art"``.

    Attributes:
      variable: in tanh space.
      iterate: the input that the running descent has reached.
      iteration: of the running descent.
      rate: learning rate.
      const: the weight c of the hinge.
      lower: ART's lower bound of c.
      doubling: c is still doubled; no descent has succeeded.
      loss, distance: of the last point that the line search tried, not always the iterate's.
      reached: the iterate has the wanted margin.
      ever: an iterate of the running descent had.
      search: how many values of c the row has tried.
      best: squared distance of ``x_adv``.
    """

    variable: Float[Array, "batch ..."]
    iterate: Float[Array, "batch ..."]
    iteration: Int[Array, " batch"]
    rate: Float[Array, " batch"]
    const: Float[Array, " batch"]
    lower: Float[Array, " batch"]
    doubling: Bool[Array, " batch"]
    loss: Float[Array, " batch"]
    distance: Float[Array, " batch"]
    reached: Bool[Array, " batch"]
    ever: Bool[Array, " batch"]
    search: Int[Array, " batch"]
    best: Float[Array, " batch"]


@dataclasses.dataclass(frozen=True)
class CarliniL2(Carlini):
    """C&W L2: the smallest squared distance plus c times the hinge, by Adam.

    c is multiplied by ten until a descent succeeds and then halved in between; ``x_adv`` is the
    closest adversarial input of all iterates. The published code takes 10,000 steps per descent at
    a constant rate, with ``scaling="sample"``. Two things here differ on purpose. The rate follows
    the perturbation (``relative_rate``), because 0.01 is many times what a waveform needs. And a
    descent counts as a success only if it is adversarial in its last tenth, at a lower loss than
    x itself: one that merely stepped over the boundary on its way, with a c that is too small,
    would mislead the search for good.

    Attributes:
      binary_search_steps: values of c that are tried. From ten on, the last is the smallest that
        succeeded, once more, as published.
      relative_rate: the learning rate is at most this share of the root mean square of the best
        perturbation so far (over half the width of the bounds); None: no such limit.
      scaling: Adam's second moment per "sample" of the input, as published, or one per "row",
        which keeps the direction of the gradient, the shortest way in L2, and takes less memory.
      max_halving, max_doubling: of the learning rate, in ART's line search.
      compat: "art" descends along the gradient with ART's line search instead of Adam, keeps the
        hinge's gradient where it is saturated, and updates c as ART does, where the lower bound is
        an alias of c itself; each row as with ``batch_size=1``.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])  # a victim's logits; 0.4 / √2 = 0.28 is the smallest
      >>> attack = jaxser.attacks.CarliniL2(steps=100)
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.25, 0.3])
      >>> result.success[:, 0].tolist(), result.found_norm[0, 0].round(2).item()
      ([False, True], 0.28)
    """

    name: ClassVar[str] = "carlinil2"

    binary_search_steps: int = 9
    relative_rate: float | None = 0.1
    scaling: Literal["row", "sample"] = "row"
    max_halving: int = 5
    max_doubling: int = 5
    compat: Literal["art"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            binary_search_steps=self.binary_search_steps,
            relative_rate=self.relative_rate,
            max_halving=self.max_halving,
            max_doubling=self.max_doubling,
        )
        check_choice(self.name, "scaling", self.scaling, ("row", "sample"))
        check_compat(self.name, self.compat, self.bounds)

    @property
    def max_steps(self) -> int:
        return self.steps * self.binary_search_steps

    @property
    def epsilon_norm(self) -> Norm:
        return "l2"

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> L2State | LineSearchState:
        """The clean input, before the first descent."""
        state = new_state(keys, x, y, epsilon)
        none, infinite = jnp.zeros_like(epsilon), jnp.full_like(epsilon, jnp.inf)
        if self.bounds is not None and self.compat == "art":
            return extended(
                state,
                LineSearchState,
                variable=to_tanh(x, self.bounds),
                iterate=x,
                iteration=jnp.zeros_like(state.steps),
                rate=jnp.full_like(epsilon, self.learning_rate),
                const=jnp.full_like(epsilon, self.initial_const),
                lower=none,
                doubling=jnp.ones_like(state.done),
                loss=none,
                distance=none,
                reached=jnp.zeros_like(state.done),
                ever=jnp.zeros_like(state.done),
                search=jnp.zeros_like(state.steps),
                best=infinite,
            )
        return self.started(
            state,
            L2State,
            per_sample=self.scaling == "sample",
            search=jnp.zeros_like(state.steps),
            lower=none,
            upper=infinite,
            clean_hinge=none,
        )

    def step(self, logits_fn: LogitsFn, state: Any) -> Any:
        """One iteration of each row's descent, and a new c where that was its last."""
        if self.bounds is not None and self.compat == "art":
            return self._line_search_step(logits_fn, state, self.bounds)
        return self._adam_step(logits_fn, state)

    def _adam_step(self, logits_fn: LogitsFn, state: L2State) -> L2State:
        moved, slope = in_box(state.x, state.offset, self.bounds)
        found = margin_gradient(logits_fn, moved, state.y, self.targeted)
        delta = moved - state.x
        distance = row_sum(jnp.square(delta))
        hinge = self.hinge(found.loss, found.logits)
        adversarial = found.reached & (hinge == 0)
        better = adversarial & (distance < state.best)
        clean_hinge = jnp.where(state.steps == 0, hinge, state.clean_hinge)
        improved = state.improved | (adversarial & (distance < state.const * clean_hinge))

        # The chain rule by hand, through hinge and tanh: the backward pass is the margin's alone,
        # so that a small c does not push the victim's gradients under float32's range.
        pull = per_row(state.const * (hinge > 0), delta)
        gradient = (2 * delta - pull * found.gradient) * slope
        ended, last_loss = self.ended(state, distance + state.const * hinge)
        rate = self.capped_rate(self.relative_rate, jnp.sqrt(state.best / state.x[0].size))
        changes = self.descended(state, found, gradient, rate, ended, last_loss)

        upper = jnp.where(ended & improved, jnp.minimum(state.upper, state.const), state.upper)
        lower = jnp.where(ended & ~improved, jnp.maximum(state.lower, state.const), state.lower)
        const = jnp.where(jnp.isinf(upper), 10 * state.const, (lower + upper) / 2)
        search = state.search + ended
        if self.binary_search_steps >= 10:
            last = (search == self.binary_search_steps - 1) & jnp.isfinite(upper)
            const = jnp.where(last, upper, const)
        # Without a gradient at x, or with x adversarial already, there is nothing to descend on.
        still = (distance == 0) & (adversarial | (found.flags != 0))
        new = dataclasses.replace(
            state,
            **(changes | {"offset": reset_rows(ended, changes["offset"])}),
            x_adv=jnp.where(per_row(better, moved), moved, state.x_adv),
            best=jnp.where(better, distance, state.best),
            improved=improved & ~ended & ~self.opens_tenth(state),
            const=jnp.where(ended, const, state.const),
            search=search,
            lower=lower,
            upper=upper,
            clean_hinge=clean_hinge,
            done=still | (search >= self.binary_search_steps),
        )
        return freeze_done(state, new)

    def _line_search_step(
        self, logits_fn: LogitsFn, state: LineSearchState, bounds: tuple[float, float]
    ) -> LineSearchState:
        """ART's iteration: one gradient, and forward passes along it."""
        found = margin_gradient(logits_fn, state.iterate, state.y, self.targeted)
        hinge = self.hinge(found.loss, found.logits)
        fresh = state.iteration == 0
        loss = jnp.where(fresh, state.const * hinge, state.loss)
        distance = jnp.where(fresh, 0.0, state.distance)
        reached = jnp.where(fresh, hinge <= 0, state.reached)
        better = reached & (distance < state.best)
        best = jnp.where(better, distance, state.best)
        x_adv = jnp.where(per_row(better, state.x), state.iterate, state.x_adv)

        pull = per_row(state.const, state.x)
        direction = pull * found.gradient - 2 * (state.iterate - state.x)
        direction *= tanh_slope(state.variable, bounds)
        # A done row must not keep the others' search going; its trials would be thrown away.
        searching = ~state.done & (state.const < _LARGEST_CONST)

        def attempt(
            rate: Float[Array, " batch"],
        ) -> tuple[Float[Array, " batch"], Float[Array, " batch"], Float[Array, " batch"]]:
            point = from_tanh(state.variable + per_row(rate, state.x) * direction, bounds)
            logits = logits_fn(point).astype(jnp.float32)
            hinge = self.hinge(attack_margin(logits, state.y, self.targeted), logits)
            distance = row_sum(jnp.square(point - state.x))
            return state.const * hinge + distance, distance, hinge

        trials = line_search(
            attempt,
            state.rate,
            loss,
            distance,
            hinge,
            searching,
            self.max_halving,
            self.max_doubling,
        )
        accepted = trials.best_rate > 0
        variable = state.variable + per_row(trials.best_rate, state.x) * direction
        iterate = jnp.where(per_row(accepted, state.x), from_tanh(variable, bounds), state.iterate)
        loss = jnp.where(accepted, trials.best_loss, trials.loss)
        distance = jnp.where(accepted, trials.best_distance, trials.distance)
        reached = jnp.where(accepted, trials.best_hinge <= 0, reached)
        ever = jnp.where(fresh, hinge <= 0, state.ever) | reached

        ended = state.iteration + 1 >= self.steps
        better = ended & reached & (distance < best)
        best = jnp.where(better, distance, best)
        x_adv = jnp.where(per_row(better, iterate), iterate, x_adv)
        doubling = state.doubling & ~(ended & ever)
        failed = jnp.where(doubling, 2 * state.const, 1.5 * state.const - 0.5 * state.lower)
        const = jnp.where(ever, (state.lower + state.const) / 2, failed)
        const = jnp.where(ended, const, state.const)
        search = state.search + ended
        still = (state.search == 0) & fresh & ((hinge <= 0) | (found.flags != 0))
        start = per_row(ended, iterate)
        new = dataclasses.replace(
            state,
            x_adv=x_adv,
            best=best,
            variable=jnp.where(start, to_tanh(state.x, bounds), variable),
            iterate=jnp.where(start, state.x, iterate),
            iteration=jnp.where(ended, 0, state.iteration + 1),
            rate=jnp.where(ended, self.learning_rate, trials.rate),
            const=const,
            # ART takes the old c after it has changed it: the bound is the new c.
            lower=jnp.where(ended & ~ever, const, state.lower),
            doubling=doubling,
            loss=loss,
            distance=distance,
            reached=reached,
            ever=ever,
            search=search,
            done=still | (search >= self.binary_search_steps) | (ended & (const >= _LARGEST_CONST)),
            steps=state.steps + 1,
            queries=state.queries + 1 + trials.halvings + trials.doublings,
            gradients=state.gradients + 1,
            flags=state.flags | found.flags,
        )
        return freeze_done(state, new)

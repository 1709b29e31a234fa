"""The attacks of Carlini and Wagner: smallest perturbations in L2, L∞ and L0.

    attack = CarliniL2(steps=200, binary_search_steps=6)
    attack = CarliniLinf(decrease_factor=0.8)
    attack = CarliniL0(confidence=2.0)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.1, 0.5])

Carlini & Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, section VI. All
minimise a distance plus c times the hinge of the margin (their loss f6, rearranged so that it is
zero exactly where the input is adversarial with the wanted confidence) by Adam, over a variable
whose tanh keeps the input inside its bounds, and differ in what happens around that descent: L2
searches for the smallest c that succeeds, L∞ shrinks a tolerated amplitude τ, L0 shrinks the set
of samples that may change. Every row is a state machine of its own: it counts its own iterations,
moves its own c, τ or set, and ends its descents when it sees fit, so rows at different stages share
a batch and slots are refilled. One step of an attack is one forward and one backward pass.

An input counts as adversarial only where rounding alone cannot take that back, also with zero
confidence: another program of the victim, such as that of another batch size, may round in
another way.

``compat="art"`` gives the variants of the Adversarial Robustness Toolbox, which descend differently
(see each class).
"""

import dataclasses
import math
from typing import Any, ClassVar, Literal, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from jaxser.attacks.base import (
    NON_FINITE,
    ZERO_GRADIENT,
    AttackState,
    LogitsFn,
    MinimalNormAttack,
    check_choice,
    check_positive,
    extended,
    freeze_done,
    new_state,
)
from jaxser.attacks.linearisation import safe_margin
from jaxser.attacks.losses import is_successful, margin_loss, prediction
from jaxser.attacks.projections import (
    Bounds,
    Norm,
    clip_to_bounds,
    largest_mask,
    per_row,
    row_norm,
)
from jaxser.runtime.errors import UsageError

__all__ = ["CarliniL0", "CarliniL2", "CarliniLinf"]

_BETA1, _BETA2, _ADAM_EPSILON = 0.9, 0.999, 1e-8

# A sample at its bound has no finite place in tanh space; the published code scales by this.
_SMOOTHER = 0.999999

# A descent has stalled when its loss is above this share of what it was a tenth of the steps ago.
_PROGRESS, _CHECKS = 0.9999, 10


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Margin:
    """One forward and one backward pass.

    Attributes:
      value: how far the logits are on the side that the attack wants.
      gradient: of ``value``, to ascend; zero where it is not finite.
      reached: rows whose input is what the attack wants.
      safe: the smallest ``value`` that rounding cannot take back.
      flags: what has to be said about the row.
    """

    value: Float[Array, "batch"]
    gradient: Float[Array, "batch ..."]
    reached: Bool[Array, "batch"]
    safe: Float[Array, "batch"]
    flags: UInt[Array, "batch"]


def _attack_margin(
    logits: Float[Array, "batch classes"], y: Int[Array, "batch"], targeted: bool
) -> Float[Array, "batch"]:
    margin = margin_loss(logits, y)
    return -margin if targeted else margin


def _margin_gradient(
    logits_fn: LogitsFn, x: Float[Array, "batch ..."], y: Int[Array, "batch"], targeted: bool
) -> _Margin:
    """The margin and its gradient; c comes in after the backward pass and underflows nothing."""

    def total(x: Float[Array, "batch ..."]) -> tuple[Float[Array, ""], tuple[Array, Array]]:
        logits = logits_fn(x).astype(jnp.float32)
        margin = _attack_margin(logits, y, targeted)
        return margin.sum(), (margin, logits)

    gradient, (margin, logits) = jax.grad(total, has_aux=True)(x)
    predicted = prediction(logits)
    axes = tuple(range(1, x.ndim))
    finite = jnp.isfinite(gradient).all(axis=axes) & (predicted >= 0)
    gradient = jnp.where(per_row(finite, x), gradient, 0.0)
    flags = ZERO_GRADIENT * (finite & (gradient == 0).all(axis=axes)) + NON_FINITE * ~finite
    return _Margin(
        value=margin,
        gradient=gradient,
        reached=is_successful(predicted, y, targeted),
        safe=safe_margin(logits),
        flags=flags.astype(jnp.uint32),
    )


def _in_box(
    x: Float[Array, "batch ..."], offset: Float[Array, "batch ..."], bounds: Bounds
) -> tuple[Float[Array, "batch ..."], Float[Array, "batch ..."]]:
    """The input at ``offset`` from x in tanh space, and its derivative by the offset.

    The published variable w has ``x_adv = middle + half * tanh(w)``. With ``w = w_0 + offset``
    and ``t_0 = tanh(w_0)`` the addition theorem gives x_adv - x as
    ``half * (1 - t_0²) * tanh(offset) / (1 + t_0 * tanh(offset))``: the same curve, but a zero
    offset is x to the last bit and small perturbations keep all their digits. Without bounds the
    offset is the perturbation.
    """
    if bounds is None:
        return x + offset, jnp.ones_like(x)
    middle, half = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2
    start = jnp.clip((x - middle) / half, -_SMOOTHER, _SMOOTHER)
    moved = jnp.tanh(offset)
    room, share = half * (1 - start**2), 1 / (1 + start * moved)
    x_adv = clip_to_bounds(x + room * moved * share, x, bounds)
    return x_adv, room * (1 - moved**2) * share**2


def _offset_to(
    x: Float[Array, "batch ..."], x_adv: Float[Array, "batch ..."], bounds: Bounds
) -> Float[Array, "batch ..."]:
    """The offset whose ``_in_box`` is ``x_adv``, short of the infinite one of a bound."""
    delta = x_adv - x
    if bounds is None:
        return delta
    middle, half = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2
    start = jnp.clip((x - middle) / half, -_SMOOTHER, _SMOOTHER)
    moved = delta / (half * (1 - start**2) - delta * start)
    return jnp.arctanh(jnp.clip(moved, -_SMOOTHER, _SMOOTHER))


def _adam(
    first: Float[Array, "batch ..."],
    second: Float[Array, "batch *rest"],
    gradient: Float[Array, "batch ..."],
    count: Int[Array, "batch"],
) -> tuple[Float[Array, "batch ..."], Float[Array, "batch *rest"], Float[Array, "batch ..."]]:
    """New moments and the step to subtract, before the learning rate; ``count`` starts at 1.

    The count is per row, since the rows of a batch are at different iterations. ``second`` has one
    entry per sample of the input, as in Adam, or one per row.
    """
    square = jnp.square(gradient)
    if second.ndim < gradient.ndim:
        square = square.mean(axis=tuple(range(1, gradient.ndim)))
    first = _BETA1 * first + (1 - _BETA1) * gradient
    second = _BETA2 * second + (1 - _BETA2) * square
    steps = count.astype(jnp.float32)
    first_scale = per_row(1 / (1 - _BETA1**steps), first)
    scaled = second * per_row(1 / (1 - _BETA2**steps), second)
    spread = jnp.sqrt(scaled)
    if second.ndim < gradient.ndim:
        spread = per_row(spread, first)
    return first, second, first * first_scale / (spread + _ADAM_EPSILON)


def _sum(values: Float[Array, "batch ..."]) -> Float[Array, "batch"]:
    return values.sum(axis=tuple(range(1, values.ndim)))


def _reset(rows: Bool[Array, "batch"], values: Float[Array, "batch ..."]) -> Array:
    """Zero in the given rows."""
    return jnp.where(per_row(rows, values), jnp.zeros_like(values), values)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DescentState(AttackState):
    """A descent by Adam in each row.

    Attributes:
      offset: the variable, zero at x (see ``_in_box``).
      first, second: Adam's moments.
      iteration: of the running descent.
      const: the weight c of the hinge.
      best: distance of ``x_adv``, squared for L2; infinite before the first success.
      improved: whether the running descent has found what it is for.
      last_loss: when progress was last checked.
    """

    offset: Float[Array, "batch ..."]
    first: Float[Array, "batch ..."]
    second: Float[Array, "batch *rest"]
    iteration: Int[Array, "batch"]
    const: Float[Array, "batch"]
    best: Float[Array, "batch"]
    improved: Bool[Array, "batch"]
    last_loss: Float[Array, "batch"]


Descent = TypeVar("Descent", bound=DescentState)


@dataclasses.dataclass(frozen=True)
class _Carlini(MinimalNormAttack):
    """What the three attacks share.

    Attributes:
      confidence: the margin of logits (κ) that an adversarial input must have.
      learning_rate: Adam's, in tanh space; in units of the input where there are no bounds.
      steps: iterations of a descent.
      abort_early: end a descent whose loss has not fallen by a tenth of a per mille within a
        tenth of its steps.
      initial_const: the first c.
    """

    confidence: float = 0.0
    learning_rate: float = 0.01
    steps: int = 100
    abort_early: bool = True
    initial_const: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            learning_rate=self.learning_rate,
            steps=self.steps,
            initial_const=self.initial_const,
        )
        if not 0 <= self.confidence < math.inf:
            raise UsageError(
                f"{self.name}: confidence must be zero or positive, not {self.confidence!r}."
            )

    def _start(
        self, state: AttackState, cls: type[Descent], *, per_sample: bool, **more: Array
    ) -> Descent:
        """``state`` as ``cls`` before the first descent."""
        blank, infinite = jnp.zeros_like(state.x), jnp.full_like(state.epsilon, jnp.inf)
        return extended(
            state,
            cls,
            offset=blank,
            first=blank,
            second=blank if per_sample else jnp.zeros_like(state.epsilon),
            iteration=jnp.zeros_like(state.steps),
            const=jnp.full_like(state.epsilon, self.initial_const),
            best=infinite,
            improved=jnp.zeros_like(state.done),
            last_loss=infinite,
            **more,
        )

    def _hinge(
        self, margin: Float[Array, "batch"], safe: Float[Array, "batch"]
    ) -> Float[Array, "batch"]:
        return jax.nn.relu(jnp.maximum(self.confidence, safe) - margin)

    def _adversarial(self, found: _Margin) -> Bool[Array, "batch"]:
        return found.reached & (self._hinge(found.value, found.safe) == 0)

    def _capped_rate(
        self, share: float | None, amplitude: Float[Array, "batch"]
    ) -> Float[Array, "batch"]:
        """The learning rate, at most ``share`` of an amplitude given in units of the input."""
        if share is None:
            return jnp.full_like(amplitude, self.learning_rate)
        half = 1.0 if self.bounds is None else (self.bounds[1] - self.bounds[0]) / 2
        return jnp.minimum(self.learning_rate, share * amplitude / half)

    def _checks(self, state: DescentState) -> Bool[Array, "batch"]:
        """Whether this iteration opens another tenth of the descent."""
        return state.iteration % math.ceil(self.steps / _CHECKS) == 0

    def _ended(
        self, state: DescentState, loss: Float[Array, "batch"]
    ) -> tuple[Bool[Array, "batch"], Float[Array, "batch"]]:
        """Whether the descent of a row is over, and the loss to compare with next time."""
        over = state.iteration + 1 >= self.steps
        if not self.abort_early:
            return over, state.last_loss
        check = self._checks(state)
        stalled = check & ~(loss <= _PROGRESS * state.last_loss)
        return over | stalled, jnp.where(check, loss, state.last_loss)

    def _descend(
        self,
        state: DescentState,
        found: _Margin,
        gradient: Float[Array, "batch ..."],
        rate: Float[Array, "batch"],
        ended: Bool[Array, "batch"],
        last_loss: Float[Array, "batch"],
    ) -> dict[str, Array]:
        """What every step changes: a step of Adam, or a fresh start of it, and the counters."""
        first, second, step = _adam(state.first, state.second, gradient, state.iteration + 1)
        return {
            "offset": state.offset - per_row(rate, step) * step,
            "first": _reset(ended, first),
            "second": _reset(ended, second),
            "iteration": jnp.where(ended, 0, state.iteration + 1),
            "last_loss": jnp.where(ended, jnp.inf, last_loss),
            "steps": state.steps + 1,
            "queries": state.queries + 1,
            "gradients": state.gradients + 1,
            "flags": state.flags | found.flags,
        }


def _check_share(attack: str, name: str, value: float) -> None:
    if not 0 < value < 1:
        raise UsageError(f"{attack}: {name} must be between 0 and 1, not {value!r}.")


def _check_consts(attack: str, initial: float, largest: float, factor: float) -> None:
    if not 1 < factor < math.inf:
        raise UsageError(f"{attack}: const_factor must be more than 1, not {factor!r}.")
    if not initial < largest < math.inf:
        raise UsageError(
            f"{attack}: largest_const must be more than initial_const, not {largest!r}."
        )


def _check_compat(attack: str, compat: str | None, bounds: Bounds) -> None:
    check_choice(attack, "compat", compat, (None, "art"))
    if compat == "art" and bounds is None:
        raise UsageError(f"{attack}: compat='art' needs bounds; give (low, high).")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class L2State(DescentState):
    """State of :class:`CarliniL2`.

    Attributes:
      search: how many values of c the row has tried.
      lower, upper: largest c that failed, and smallest that succeeded.
      clean_hinge: the hinge at x.
    """

    search: Int[Array, "batch"]
    lower: Float[Array, "batch"]
    upper: Float[Array, "batch"]
    clean_hinge: Float[Array, "batch"]


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
    iteration: Int[Array, "batch"]
    rate: Float[Array, "batch"]
    const: Float[Array, "batch"]
    lower: Float[Array, "batch"]
    doubling: Bool[Array, "batch"]
    loss: Float[Array, "batch"]
    distance: Float[Array, "batch"]
    reached: Bool[Array, "batch"]
    ever: Bool[Array, "batch"]
    search: Int[Array, "batch"]
    best: Float[Array, "batch"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Trials:
    """A line search under way: what each row has tried, and the best of it.

    ``loss`` and ``distance`` are the last trial's, ``best_*`` those of the trial with the lowest
    loss; ``best_rate`` is zero where none lowered it. ``lowered`` and ``lowest`` say of the last
    trial whether its loss is below that of the start, and whether none before was lower. They are
    kept, not asked again of the losses: a compiler may compute a loss twice and round it otherwise.
    """

    rate: Float[Array, "batch"]
    halvings: Int[Array, "batch"]
    doublings: Int[Array, "batch"]
    halved: Bool[Array, "batch"]
    lowered: Bool[Array, "batch"]
    lowest: Bool[Array, "batch"]
    loss: Float[Array, "batch"]
    distance: Float[Array, "batch"]
    best_rate: Float[Array, "batch"]
    best_loss: Float[Array, "batch"]
    best_distance: Float[Array, "batch"]
    best_hinge: Float[Array, "batch"]


# ART gives a row up when its c has grown beyond this.
_LARGEST_L2_CONST = 1e11


def _to_tanh(x: Float[Array, "batch ..."], bounds: tuple[float, float]) -> Array:
    low, high = bounds
    unit = (jnp.clip(x, low, high) - low) / (high - low)
    return jnp.arctanh((2 * unit - 1) * _SMOOTHER)


def _from_tanh(variable: Float[Array, "batch ..."], bounds: tuple[float, float]) -> Array:
    low, high = bounds
    return (jnp.tanh(variable) + 1) / 2 * (high - low) + low


def _tanh_slope(variable: Float[Array, "batch ..."], bounds: tuple[float, float]) -> Array:
    """ART's derivative of ``_from_tanh``, which carries the smoother."""
    return (bounds[1] - bounds[0]) * (1 - jnp.square(jnp.tanh(variable))) / (2 * _SMOOTHER)


@dataclasses.dataclass(frozen=True)
class CarliniL2(_Carlini):
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
        _check_compat(self.name, self.compat, self.bounds)

    @property
    def max_steps(self) -> int:
        return self.steps * self.binary_search_steps

    @property
    def epsilon_norm(self) -> Norm:
        return "l2"

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, "batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, "batch"],
        epsilon: Float[Array, "batch"],
    ) -> L2State | LineSearchState:
        """The clean input, before the first descent."""
        state = new_state(keys, x, y, epsilon)
        none, infinite = jnp.zeros_like(epsilon), jnp.full_like(epsilon, jnp.inf)
        if self.bounds is not None and self.compat == "art":
            return extended(
                state,
                LineSearchState,
                variable=_to_tanh(x, self.bounds),
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
        return self._start(
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
        moved, slope = _in_box(state.x, state.offset, self.bounds)
        found = _margin_gradient(logits_fn, moved, state.y, self.targeted)
        delta = moved - state.x
        distance = _sum(jnp.square(delta))
        hinge = self._hinge(found.value, found.safe)
        adversarial = self._adversarial(found)
        better = adversarial & (distance < state.best)
        clean_hinge = jnp.where(state.steps == 0, hinge, state.clean_hinge)
        improved = state.improved | (adversarial & (distance < state.const * clean_hinge))

        pull = per_row(state.const * (hinge > 0), delta)
        gradient = (2 * delta - pull * found.gradient) * slope
        ended, last_loss = self._ended(state, distance + state.const * hinge)
        rate = self._capped_rate(self.relative_rate, jnp.sqrt(state.best / state.x[0].size))
        changes = self._descend(state, found, gradient, rate, ended, last_loss)

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
            **(changes | {"offset": _reset(ended, changes["offset"])}),
            x_adv=jnp.where(per_row(better, moved), moved, state.x_adv),
            best=jnp.where(better, distance, state.best),
            improved=improved & ~ended & ~self._checks(state),
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
        found = _margin_gradient(logits_fn, state.iterate, state.y, self.targeted)
        hinge = self._hinge(found.value, found.safe)
        fresh = state.iteration == 0
        loss = jnp.where(fresh, state.const * hinge, state.loss)
        distance = jnp.where(fresh, 0.0, state.distance)
        reached = jnp.where(fresh, hinge <= 0, state.reached)
        better = reached & (distance < state.best)
        best = jnp.where(better, distance, state.best)
        x_adv = jnp.where(per_row(better, state.x), state.iterate, state.x_adv)

        pull = per_row(state.const, state.x)
        direction = pull * found.gradient - 2 * (state.iterate - state.x)
        direction *= _tanh_slope(state.variable, bounds)
        searching = ~state.done & (state.const < _LARGEST_L2_CONST)
        trials = self._line_search(
            logits_fn, state, direction, loss, distance, hinge, searching, bounds
        )
        accepted = trials.best_rate > 0
        variable = state.variable + per_row(trials.best_rate, state.x) * direction
        iterate = jnp.where(per_row(accepted, state.x), _from_tanh(variable, bounds), state.iterate)
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
            variable=jnp.where(start, _to_tanh(state.x, bounds), variable),
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
            done=still
            | (search >= self.binary_search_steps)
            | (ended & (const >= _LARGEST_L2_CONST)),
            steps=state.steps + 1,
            queries=state.queries + 1 + trials.halvings + trials.doublings,
            gradients=state.gradients + 1,
            flags=state.flags | found.flags,
        )
        return freeze_done(state, new)

    def _line_search(
        self,
        logits_fn: LogitsFn,
        state: LineSearchState,
        direction: Float[Array, "batch ..."],
        loss: Float[Array, "batch"],
        distance: Float[Array, "batch"],
        hinge: Float[Array, "batch"],
        searching: Bool[Array, "batch"],
        bounds: tuple[float, float],
    ) -> _Trials:
        """Halve the rate until the loss falls; if it fell at once, double the rate while it falls.

        Rows try at the same time, each what it needs next, until none needs another trial.
        """

        def wanted(trials: _Trials) -> tuple[Bool[Array, "batch"], Bool[Array, "batch"]]:
            halve = ~trials.halved & (trials.halvings < self.max_halving) & ~trials.lowered
            double = ~halve & (trials.halvings == 1) & (trials.doublings < self.max_doubling)
            return halve & searching, double & trials.lowest & searching

        def unfinished(trials: _Trials) -> Bool[Array, ""]:
            halve, double = wanted(trials)
            return (halve | double).any()

        def attempt(trials: _Trials) -> _Trials:
            halve, double = wanted(trials)
            active = halve | double
            # ART's rate is halved after every trial of the first phase, so it first catches up.
            rate = jnp.where(double, 2 * trials.rate, trials.rate)
            tried = jnp.where(double & (trials.doublings == 0), 2 * rate, rate)
            point = _from_tanh(state.variable + per_row(tried, state.x) * direction, bounds)
            logits = logits_fn(point).astype(jnp.float32)
            margin = _attack_margin(logits, state.y, self.targeted)
            new_hinge = self._hinge(margin, safe_margin(logits))
            new_distance = _sum(jnp.square(point - state.x))
            new_loss = state.const * new_hinge + new_distance
            lower = active & (new_loss < trials.best_loss)
            return _Trials(
                rate=jnp.where(halve, tried / 2, jnp.where(double, tried, trials.rate)),
                halvings=trials.halvings + halve,
                doublings=trials.doublings + double,
                halved=trials.halved | ~halve,
                lowered=jnp.where(active, ~(new_loss >= loss), trials.lowered),
                lowest=jnp.where(active, new_loss <= trials.best_loss, trials.lowest),
                loss=jnp.where(active, new_loss, trials.loss),
                distance=jnp.where(active, new_distance, trials.distance),
                best_rate=jnp.where(lower, tried, trials.best_rate),
                best_loss=jnp.where(lower, new_loss, trials.best_loss),
                best_distance=jnp.where(lower, new_distance, trials.best_distance),
                best_hinge=jnp.where(lower, new_hinge, trials.best_hinge),
            )

        none = jnp.zeros_like(state.steps)
        trials = jax.lax.while_loop(
            unfinished,
            attempt,
            _Trials(
                rate=state.rate,
                halvings=none,
                doublings=none,
                halved=jnp.zeros_like(state.done),
                lowered=jnp.isnan(loss),
                lowest=jnp.ones_like(state.done),
                loss=loss,
                distance=distance,
                best_rate=jnp.zeros_like(loss),
                best_loss=loss,
                best_distance=distance,
                best_hinge=hinge,
            ),
        )
        # A row that never doubled still has the last halving to undo.
        rate = jnp.where(trials.doublings == 0, 2 * trials.rate, trials.rate)
        return dataclasses.replace(trials, rate=jnp.where(trials.halvings == 1, rate / 2, rate))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LinfState(DescentState):
    """State of :class:`CarliniLinf`.

    Attributes:
      tau: the amplitude that is tolerated.
    """

    tau: Float[Array, "batch"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ArtLinfState(AttackState):
    """State of :class:`CarliniLinf` with ``compat="art"``.

    Attributes:
      variable: in tanh space.
      first, second: Adam's moments.
      iteration: updates of the variable in the running descent.
      start: gradient at the point that every descent starts from.
      tau: the amplitude that is tolerated.
      best: amplitude of ``x_adv``; one before the first success.
      converged: how many of ART's values of c, smallest first, have ended their descent.
      improved: whether this τ has given a smaller perturbation.
    """

    variable: Float[Array, "batch ..."]
    first: Float[Array, "batch ..."]
    second: Float[Array, "batch ..."]
    iteration: Int[Array, "batch"]
    start: Float[Array, "batch ..."]
    tau: Float[Array, "batch"]
    best: Float[Array, "batch"]
    converged: Int[Array, "batch"]
    improved: Bool[Array, "batch"]


# ART's τ and smallest τ, in units of the input whatever the bounds, and its converged loss.
_ART_TAU, _ART_SMALLEST_TAU, _ART_CONVERGED = 1.0, 1 / 256, 0.001


@dataclasses.dataclass(frozen=True)
class CarliniLinf(_Carlini):
    """C&W L∞: c times the hinge plus what exceeds a tolerated amplitude τ, by Adam.

    As soon as a descent finds a smaller perturbation than before, τ becomes the smaller of itself
    and that amplitude, times ``decrease_factor``; where a descent finds none, c grows. A row ends
    when c or τ passes its limit. Descents go on from where the last one ended (the published warm
    start).

    Attributes:
      initial_const, largest_const, const_factor: the values of c.
      initial_tau, smallest_tau: as shares of the bounds' width (of one, without bounds). The
        published smallest τ is 1/256, one grey level; here it is one of 16 bits.
      decrease_factor: of τ.
      relative_rate: the learning rate is at most this share of τ (over half the width of the
        bounds); None: constant, as published, which is coarse where τ is smaller than the rate.
      compat: "art" follows ART: its gradient leaves out c and the hinge's saturation, each descent
        starts at x, every c is tried for every τ, τ is in units of the input and ends at 1/256,
        and a targeted attack counts any class but the target as a success. Since c is missing from
        the gradient, all values of c share one descent and differ in where they end it: one
        descent per τ gives what ART finds in all of them.
    """

    name: ClassVar[str] = "carlinilinf"

    steps: int = 50
    initial_const: float = 1e-5
    largest_const: float = 20.0
    const_factor: float = 2.0
    initial_tau: float = 1.0
    smallest_tau: float = 2.0**-16
    decrease_factor: float = 0.9
    relative_rate: float | None = 0.1
    compat: Literal["art"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            initial_tau=self.initial_tau,
            smallest_tau=self.smallest_tau,
            relative_rate=self.relative_rate,
        )
        _check_consts(self.name, self.initial_const, self.largest_const, self.const_factor)
        _check_share(self.name, "decrease_factor", self.decrease_factor)
        _check_compat(self.name, self.compat, self.bounds)

    @property
    def max_steps(self) -> int:
        """Every step of τ and every c at its longest."""
        if self.compat == "art":
            ratio = _ART_SMALLEST_TAU / _ART_TAU
        else:
            ratio = min(1.0, self.smallest_tau / self.initial_tau)
        rounds = math.ceil(math.log(ratio) / math.log(self.decrease_factor)) + 1
        if self.compat == "art":
            return rounds * self.steps + 1
        return (rounds + len(self._consts())) * self.steps

    @property
    def epsilon_norm(self) -> Norm:
        return "linf"

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, "batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, "batch"],
        epsilon: Float[Array, "batch"],
    ) -> LinfState | ArtLinfState:
        """The clean input, before the first descent."""
        state = new_state(keys, x, y, epsilon)
        if self.bounds is not None and self.compat == "art":
            blank = jnp.zeros_like(x)
            return extended(
                state,
                ArtLinfState,
                variable=_to_tanh(x, self.bounds),
                first=blank,
                second=blank,
                iteration=jnp.zeros_like(state.steps),
                start=blank,
                tau=jnp.full_like(epsilon, _ART_TAU),
                best=jnp.ones_like(epsilon),
                converged=jnp.zeros_like(state.steps),
                improved=jnp.zeros_like(state.done),
            )
        return self._start(
            state,
            LinfState,
            per_sample=True,
            tau=jnp.full_like(epsilon, self.initial_tau * self._width()),
        )

    def step(self, logits_fn: LogitsFn, state: Any) -> Any:
        """One iteration of each row's descent, and a new τ or c where that was its last."""
        if self.bounds is not None and self.compat == "art":
            return self._art_step(logits_fn, state, self.bounds)
        return self._adam_step(logits_fn, state)

    def _width(self) -> float:
        return 1.0 if self.bounds is None else self.bounds[1] - self.bounds[0]

    def _consts(self) -> tuple[float, ...]:
        """The values of c."""
        consts = [self.initial_const]
        while consts[-1] * self.const_factor < self.largest_const:
            consts.append(consts[-1] * self.const_factor)
        return tuple(consts)

    def _adam_step(self, logits_fn: LogitsFn, state: LinfState) -> LinfState:
        moved, slope = _in_box(state.x, state.offset, self.bounds)
        found = _margin_gradient(logits_fn, moved, state.y, self.targeted)
        delta = moved - state.x
        amplitude = row_norm(delta, "linf")
        hinge = self._hinge(found.value, found.safe)
        adversarial = self._adversarial(found)
        better = adversarial & (amplitude < state.best)
        best = jnp.where(better, amplitude, state.best)
        improved = state.improved | better

        tau = per_row(state.tau, delta)
        excess = jax.nn.relu(jnp.abs(delta) - tau)
        pull = per_row(state.const * (hinge > 0), delta)
        gradient = (jnp.sign(delta) * (excess > 0) - pull * found.gradient) * slope
        ended, last_loss = self._ended(state, _sum(excess) + state.const * hinge)
        ended |= adversarial & (amplitude <= state.tau)
        rate = self._capped_rate(self.relative_rate, state.tau)
        changes = self._descend(state, found, gradient, rate, ended, last_loss)

        shrink, grow = ended & improved, ended & ~improved
        new_tau = jnp.where(shrink, self.decrease_factor * jnp.minimum(state.tau, best), state.tau)
        const = jnp.where(grow, state.const * self.const_factor, state.const)
        still = (amplitude == 0) & (adversarial | (found.flags != 0))
        new = dataclasses.replace(
            state,
            **changes,
            x_adv=jnp.where(per_row(better, moved), moved, state.x_adv),
            best=best,
            improved=improved & ~ended,
            const=const,
            tau=new_tau,
            done=still
            | (const >= self.largest_const)
            | (new_tau <= self.smallest_tau * self._width()),
        )
        return freeze_done(state, new)

    def _art_step(
        self, logits_fn: LogitsFn, state: ArtLinfState, bounds: tuple[float, float]
    ) -> ArtLinfState:
        """The state of all of ART's descents at this τ after one more of their iterations."""
        moved, slope = _from_tanh(state.variable, bounds), _tanh_slope(state.variable, bounds)
        found = _margin_gradient(logits_fn, moved, state.y, self.targeted)
        delta = moved - state.x
        amplitude = row_norm(delta, "linf")
        excess = jax.nn.relu(jnp.abs(delta) - per_row(state.tau, delta))
        gradient = (jnp.sign(delta) * (excess > 0) - found.gradient) * slope

        consts = jnp.asarray(self._consts(), jnp.float32)[None]
        loss = consts * self._hinge(found.value, found.safe)[:, None] + _sum(excess)[:, None]
        moving = state.iteration > 0
        last = state.iteration >= self.steps
        converged = jnp.maximum(state.converged, (loss < _ART_CONVERGED).sum(axis=1))
        converged = jnp.where(last, consts.shape[1], converged)
        converged = jnp.where(moving, converged, 0)
        # ART asks for another class than y even where y is the target.
        other = found.reached != self.targeted
        better = (converged > state.converged) & other & (amplitude < state.best)
        best = jnp.where(better, amplitude, state.best)
        improved = state.improved | better

        ended = converged == consts.shape[1]
        x_adv = jnp.where(per_row(better, moved), moved, state.x_adv)
        tau = jnp.where(ended, self.decrease_factor * jnp.minimum(state.tau, best), state.tau)
        # All descents leave the same point with the same gradient, so it is taken once.
        start = jnp.where(per_row(moving, gradient), state.start, gradient)
        along = jnp.where(per_row(ended, gradient), start, gradient)
        iteration = jnp.where(ended, 0, state.iteration) + 1
        first, second, step = _adam(
            _reset(ended, state.first), _reset(ended, state.second), along, iteration
        )
        origin = jnp.where(per_row(ended, moved), _to_tanh(state.x, bounds), state.variable)
        still = ~moving & (self._adversarial(found) | (found.flags != 0))
        new = dataclasses.replace(
            state,
            x_adv=x_adv,
            variable=origin - self.learning_rate * step,
            first=first,
            second=second,
            iteration=iteration,
            start=start,
            tau=tau,
            best=best,
            converged=jnp.where(ended, 0, converged),
            improved=improved & ~ended,
            done=still | (ended & (~improved | (tau <= _ART_SMALLEST_TAU))),
            steps=state.steps + 1,
            queries=state.queries + 1,
            gradients=state.gradients + 1,
            flags=state.flags | found.flags,
        )
        return freeze_done(state, new)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class L0State(DescentState):
    """State of :class:`CarliniL0`.

    Attributes:
      free: samples that may change.
      importance: of the samples of ``x_adv``, zero where it is x.
      removal: share of the changed samples that the next success fixes.
      kept_const: c when ``x_adv`` was found.
      round: descents that have ended.
    """

    free: Bool[Array, "batch ..."]
    importance: Float[Array, "batch ..."]
    removal: Float[Array, "batch"]
    kept_const: Float[Array, "batch"]
    round: Int[Array, "batch"]


@dataclasses.dataclass(frozen=True)
class CarliniL0(_Carlini):
    """C&W L0: L2 descents on ever fewer samples.

    A descent ends at its first adversarial input. Of the samples it changed, those that matter
    least, by gradient times change, are fixed at their clean value, and the next descent goes on
    from there (the published warm start). Where a descent fails, c grows; where c is at its
    limit, the row returns to its last success and fixes half as many samples; it ends when it
    cannot spare one. The published code fixes about a third of the square root of the number of
    samples at a time, hundreds of rounds for a waveform, and ends at its first failure.

    Attributes:
      initial_const, largest_const, const_factor: the values of c.
      removal: share of the changed samples that are fixed at a time.
      rounds: largest number of descents.
    """

    name: ClassVar[str] = "carlinil0"

    learning_rate: float = 0.3
    steps: int = 30
    largest_const: float = 1e6
    const_factor: float = 10.0
    removal: float = 0.3
    rounds: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.name, rounds=self.rounds)
        _check_consts(self.name, self.initial_const, self.largest_const, self.const_factor)
        _check_share(self.name, "removal", self.removal)

    @property
    def max_steps(self) -> int:
        return self.rounds * self.steps

    @property
    def epsilon_norm(self) -> Norm:
        return "l0"

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, "batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, "batch"],
        epsilon: Float[Array, "batch"],
    ) -> L0State:
        """The clean input, before the first descent, on all samples."""
        state = new_state(keys, x, y, epsilon)
        return self._start(
            state,
            L0State,
            per_sample=True,
            free=jnp.ones_like(x, dtype=bool),
            importance=jnp.zeros_like(x),
            removal=jnp.full_like(epsilon, self.removal),
            kept_const=jnp.full_like(epsilon, self.initial_const),
            round=jnp.zeros_like(state.steps),
        )

    def step(self, logits_fn: LogitsFn, state: L0State) -> L0State:
        """One iteration of each row's descent, and fewer samples where it has succeeded."""
        moved, slope = _in_box(state.x, state.offset, self.bounds)
        found = _margin_gradient(logits_fn, moved, state.y, self.targeted)
        delta = moved - state.x
        hinge = self._hinge(found.value, found.safe)
        adversarial = self._adversarial(found)
        count = row_norm(delta, "l0")
        better = adversarial & (count < state.best)
        best = jnp.where(better, count, state.best)
        kept_const = jnp.where(better, state.const, state.kept_const)
        x_adv = jnp.where(per_row(better, moved), moved, state.x_adv)
        importance = jnp.where(
            per_row(better, delta), jnp.abs(found.gradient * delta), state.importance
        )

        pull = per_row(state.const * (hinge > 0), delta)
        gradient = (2 * delta - pull * found.gradient) * slope * state.free
        ended, last_loss = self._ended(state, _sum(jnp.square(delta)) + state.const * hinge)
        ended |= adversarial
        rate = self._capped_rate(None, state.epsilon)
        changes = self._descend(state, found, gradient, rate, ended, last_loss)

        failed = ended & ~adversarial
        const = jnp.where(failed, state.const * self.const_factor, state.const)
        gave_up = failed & (const >= self.largest_const)
        removal = jnp.where(gave_up, state.removal / 2, state.removal)
        # The last try before the end is to spare a single sample.
        spent = gave_up & ((state.removal * best <= 1) | jnp.isinf(best))
        chosen = adversarial | gave_up
        spared = jnp.maximum(1, jnp.floor(removal * best))
        keep = jnp.where(jnp.isfinite(best), jnp.maximum(best - spared, 1), 0).astype(jnp.int32)
        least = largest_mask(importance, keep) & (x_adv != state.x)
        free = jnp.where(per_row(chosen, delta), least, state.free)
        offset = jnp.where(
            per_row(gave_up, delta),
            _offset_to(state.x, x_adv, self.bounds),
            jnp.where(per_row(adversarial, delta), state.offset, changes["offset"]),
        )
        rounds = state.round + ended
        still = (count == 0) & (adversarial | (found.flags != 0))
        new = dataclasses.replace(
            state,
            **(changes | {"offset": jnp.where(free, offset, 0.0)}),
            x_adv=x_adv,
            best=best,
            improved=state.improved | better,
            const=jnp.where(gave_up, kept_const, const),
            free=free,
            importance=importance,
            removal=removal,
            kept_const=kept_const,
            round=rounds,
            done=still | spent | (best == 1) | (rounds >= self.rounds),
        )
        return freeze_done(state, new)

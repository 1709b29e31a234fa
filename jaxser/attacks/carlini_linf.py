"""Carlini & Wagner's L∞ attack: an ever smaller amplitude τ is tolerated, what exceeds it is not.

    attack = CarliniLinf(decrease_factor=0.8)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.01, 0.05])

Source: Carlini & Wagner, S&P 2017, section VI-C; see ``carlini`` for what the three attacks share.
"""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.attacks.adam import adam, reset_rows
from jaxser.attacks.base import AttackState, LogitsFn, extended, freeze_done, new_state
from jaxser.attacks.carlini import DescentState, GrowingConst, check_compat, margin_gradient
from jaxser.attacks.hyperparameters import check_fraction, check_positive
from jaxser.attacks.projections import Norm, per_row, row_norm, row_sum
from jaxser.attacks.tanh_space import from_tanh, in_box, tanh_slope, to_tanh

__all__ = ["ArtLinfState", "CarliniLinf", "LinfState"]

# ART's τ and smallest τ, in units of the input whatever the bounds, and its converged loss.
_ART_TAU, _ART_SMALLEST_TAU, _ART_CONVERGED = 1.0, 1 / 256, 0.001


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LinfState(DescentState):
    """State of :class:`CarliniLinf`.

    Attributes:
      tau: the amplitude that is tolerated.
    """

    tau: Float[Array, " batch"]


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
    iteration: Int[Array, " batch"]
    start: Float[Array, "batch ..."]
    tau: Float[Array, " batch"]
    best: Float[Array, " batch"]
    converged: Int[Array, " batch"]
    improved: Bool[Array, " batch"]


@dataclasses.dataclass(frozen=True)
class CarliniLinf(GrowingConst):
    """C&W L∞: c times the hinge plus what exceeds a tolerated amplitude τ, by Adam.

    As soon as a descent finds a smaller perturbation than before, τ becomes the smaller of itself
    and that amplitude, times ``decrease_factor``; where a descent finds none, c grows. A row ends
    when c or τ passes its limit. Descents go on from where the last one ended (the published warm
    start).

    Attributes:
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

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])  # a victim's logits; 0.2 is the smallest change in L∞
      >>> result = jaxser.run_attack(lambda x: x, x, [0], jaxser.attacks.CarliniLinf(), [0.1, 0.25])
      >>> result.success[:, 0].tolist()
      [False, True]
    """

    name: ClassVar[str] = "carlinilinf"

    steps: int = 50
    initial_const: float = 1e-5
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
        check_fraction(self.name, decrease_factor=self.decrease_factor)
        check_compat(self.name, self.compat, self.bounds)

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
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> LinfState | ArtLinfState:
        """The clean input, before the first descent."""
        state = new_state(keys, x, y, epsilon)
        if self.bounds is not None and self.compat == "art":
            blank = jnp.zeros_like(x)
            return extended(
                state,
                ArtLinfState,
                variable=to_tanh(x, self.bounds),
                first=blank,
                second=blank,
                iteration=jnp.zeros_like(state.steps),
                start=blank,
                tau=jnp.full_like(epsilon, _ART_TAU),
                best=jnp.ones_like(epsilon),
                converged=jnp.zeros_like(state.steps),
                improved=jnp.zeros_like(state.done),
            )
        return self.started(
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
        moved, slope = in_box(state.x, state.offset, self.bounds)
        found = margin_gradient(logits_fn, moved, state.y, self.targeted)
        delta = moved - state.x
        amplitude = row_norm(delta, "linf")
        hinge = self.hinge(found.loss, found.logits)
        adversarial = found.reached & (hinge == 0)
        better = adversarial & (amplitude < state.best)
        best = jnp.where(better, amplitude, state.best)
        improved = state.improved | better

        # Only what exceeds τ is penalised, so that all large samples come down together; L∞ itself
        # has a gradient in one sample at a time (the paper's section VI-C).
        tau = per_row(state.tau, delta)
        excess = jax.nn.relu(jnp.abs(delta) - tau)
        pull = per_row(state.const * (hinge > 0), delta)
        gradient = (jnp.sign(delta) * (excess > 0) - pull * found.gradient) * slope
        ended, last_loss = self.ended(state, row_sum(excess) + state.const * hinge)
        ended |= adversarial & (amplitude <= state.tau)
        rate = self.capped_rate(self.relative_rate, state.tau)
        changes = self.descended(state, found, gradient, rate, ended, last_loss)

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
        moved, slope = from_tanh(state.variable, bounds), tanh_slope(state.variable, bounds)
        found = margin_gradient(logits_fn, moved, state.y, self.targeted)
        delta = moved - state.x
        amplitude = row_norm(delta, "linf")
        hinge = self.hinge(found.loss, found.logits)
        excess = jax.nn.relu(jnp.abs(delta) - per_row(state.tau, delta))
        gradient = (jnp.sign(delta) * (excess > 0) - found.gradient) * slope

        consts = jnp.asarray(self._consts(), jnp.float32)[None]
        loss = consts * hinge[:, None] + row_sum(excess)[:, None]
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
        first, second, step = adam(
            reset_rows(ended, state.first), reset_rows(ended, state.second), along, iteration
        )
        origin = jnp.where(per_row(ended, moved), to_tanh(state.x, bounds), state.variable)
        still = ~moving & ((found.reached & (hinge == 0)) | (found.flags != 0))
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

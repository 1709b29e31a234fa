"""Carlini & Wagner's L0 attack: L2 descents on ever fewer samples.

    attack = CarliniL0(confidence=2.0)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[100, 1000])

Source: Carlini & Wagner, S&P 2017, section VI-B; see ``carlini`` for what the three attacks share.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.attacks.base import LogitsFn, freeze_done, new_state
from jaxser.attacks.carlini import DescentState, GrowingConst, margin_gradient
from jaxser.attacks.hyperparameters import check_fraction, check_positive
from jaxser.attacks.projections import Norm, largest_mask, per_row, row_norm, row_sum
from jaxser.attacks.sparse import SparseAttack
from jaxser.attacks.tanh_space import in_box, offset_to

__all__ = ["CarliniL0", "L0State"]


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
    removal: Float[Array, " batch"]
    kept_const: Float[Array, " batch"]
    round: Int[Array, " batch"]


@dataclasses.dataclass(frozen=True)
class CarliniL0(GrowingConst, SparseAttack):
    """C&W L0: L2 descents on ever fewer samples.

    A descent ends at its first adversarial input. Of the samples it changed, those that matter
    least, by gradient times change, are fixed at their clean value, and the next descent goes on
    from there (the published warm start). Where a descent fails, c grows; where c is at its
    limit, the row returns to its last success and fixes half as many samples; it ends when it
    cannot spare one. The published code fixes about a third of the square root of the number of
    samples at a time, hundreds of rounds for a waveform, and ends at its first failure.

    Attributes:
      removal: share of the changed samples that are fixed at a time.
      rounds: largest number of descents.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])  # one sample that moves by 0.4 is enough
      >>> result = jaxser.run_attack(lambda x: x, x, [0], jaxser.attacks.CarliniL0(), [1])
      >>> result.success[0, 0].item(), result.found_norm[0, 0].item()
      (True, 1.0)
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
        check_fraction(self.name, removal=self.removal)

    @property
    def max_steps(self) -> int:
        return self.rounds * self.steps

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
    ) -> L0State:
        """The clean input, before the first descent, on all samples."""
        state = new_state(keys, x, y, epsilon)
        return self.started(
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
        box = self.box(state.x)
        moved, slope = in_box(state.x, state.offset, box)
        found = margin_gradient(logits_fn, moved, state.y, self.targeted)
        delta = moved - state.x
        hinge = self.hinge(found.loss, found.logits)
        adversarial = found.reached & (hinge == 0)
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
        ended, last_loss = self.ended(state, row_sum(jnp.square(delta)) + state.const * hinge)
        ended |= adversarial
        rate = self.capped_rate(None, state.epsilon)
        changes = self.descended(state, found, gradient, rate, ended, last_loss)

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
            offset_to(state.x, x_adv, box),
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

"""Random noise, the baseline that every attack has to beat.

    attack = Noise(kind="white")
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.5, 1.0], seed=0)
    loudest = jaxser.run_attack(victim, waveforms, labels, Noise(kind="uniform"), epsilons=[0.01])

``kind`` says what ε is:

- "uniform": independent samples, uniform in [-ε, ε]; ε is the peak.
- "gaussian": independent normal samples; ε is their standard deviation. They are not cut off, so
  about a third of them exceed ε: it is the one kind that no norm of the perturbation bounds.
- "white": normal samples scaled to an L2 norm of exactly ε, so that a power SNR holds exactly
  (``ε = ||x||₂ · 10 ** (-snr / 20)``). Samples that the bounds clip are made up for by the
  others.

Source: Rauber & Bethge, arXiv 2007.07677, for white noise; the others are textbook noise.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxser.attacks.base import AttackState, BaseAttack, LogitsFn, freeze_done, step_keys
from jaxser.attacks.hyperparameters import check_choice
from jaxser.attacks.projections import (
    Bounds,
    Norm,
    clip_to_bounds,
    largest_bits,
    per_row,
    random_linf,
    row_norm,
    unit_l2,
)

__all__ = ["Noise"]


@dataclasses.dataclass(frozen=True)
class Noise(BaseAttack):
    """Noise of one kind and of size ε, clipped to the bounds; it asks the victim nothing.

    Attributes:
      kind: "uniform", "gaussian" or "white".

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])
      >>> attack = jaxser.attacks.Noise(kind="white")
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.1])
      >>> print(result.measures["l2"][0, 0].round(3), result.queries[0, 0])
      0.1 0
    """

    name: ClassVar[str] = "noise"

    kind: Literal["uniform", "gaussian", "white"] = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "kind", self.kind, ("uniform", "gaussian", "white"))

    @property
    def max_steps(self) -> int:
        return 1

    @property
    def epsilon_norm(self) -> Norm:
        return "l2" if self.kind == "white" else "linf"

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        """The noise."""
        del logits_fn
        keys = step_keys(state.keys, state.steps + 1)
        x = state.x
        if self.kind == "uniform":
            moved = clip_to_bounds(x + random_linf(keys, state.epsilon, x), x, self.bounds)
        else:
            normal = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
            if self.kind == "gaussian":
                delta = per_row(state.epsilon, x) * normal
                moved = clip_to_bounds(x + delta, x, self.bounds)
            else:
                moved = _at_distance(x, unit_l2(normal), state.epsilon, self.bounds)
        new = dataclasses.replace(
            state, x_adv=moved, done=jnp.ones_like(state.done), steps=state.steps + 1
        )
        return freeze_done(state, new)


def _at_distance(
    x: Float[Array, "batch ..."],
    direction: Float[Array, "batch ..."],
    epsilon: Float[Array, " batch"],
    bounds: Bounds,
) -> Float[Array, "batch ..."]:
    """``x + scale * direction`` inside the bounds, at the L2 distance ε from ``x``.

    As far as it can get, where the bounds leave less room than that.
    """

    def at(scale: Float[Array, " batch"]) -> Float[Array, "batch ..."]:
        return clip_to_bounds(x + per_row(scale, x) * direction, x, bounds)

    if bounds is None:
        return at(epsilon)

    def within(bits: Int[Array, " batch"]) -> Bool[Array, " batch"]:
        scale = jax.lax.bitcast_convert_type(bits, jnp.float32)
        return row_norm(at(scale) - x, "l2") <= epsilon

    # No closed form, since every sample that the bounds clip leaves its share to the others; but
    # the distance grows with the scale.
    bits = largest_bits(within, x.shape[0])
    return at(jax.lax.bitcast_convert_type(bits, jnp.float32))

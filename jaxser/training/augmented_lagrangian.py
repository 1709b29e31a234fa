"""What a generator has to keep, a share of changed samples and an SNR, as an augmented Lagrangian.

    breaches = {"sparsity": sparsity_breach(raw, mask, share, members)}   # 0 where it is kept
    loss = loss + penalty(breaches, multipliers, weights)
    multipliers = ascended(multipliers, breaches, rate)                     # after the update

Each of the groups of rows has a sparsity, and a multiplier for it, of its own. Source: Nocedal &
Wright, "Numerical Optimization", 2nd ed., section 17.3.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["ascended", "penalty", "share_to_keep", "snr_breach", "sparsity_breach"]

# Added to the share of changed samples and to what it should be, as a part of the latter. A mask
# that falls to nothing in one step would otherwise have a gradient so large that Adam, which
# divides by the root of its running square, stands still for the next thousand steps.
_SLACK = 0.1

# Curvature of the penalty on what is not kept, in units of the margin.
_PENALTY = 1.0


def share_to_keep(
    share: float | None, step: Int[Array, ""], annealed: int
) -> Float[Array, ""] | None:
    """The share of changed samples asked for at a step: an even fall of its logarithm from 0.

    What fools a victim is found sooner where every sample may change; the places that matter least
    are then given up one by one.
    """
    if share is None:
        return None
    return jnp.exp(math.log(share) * jnp.minimum((step + 1) / max(annealed, 1), 1.0))


def sparsity_breach(
    raw: Float[Array, "batch time"],
    mask: Float[Array, "batch time"],
    share: Float[Array, ""],
    members: Float[Array, "batch groups"],
) -> Float[Array, " groups"]:
    """How far each group of rows is from the share of samples that it may change, as a logarithm.

    0.1 is some 10 % too many; 0 stands for a group that the batch lacks. The share is that of the
    quantised mask, with the gradient of a softsign: that of the scores' tanh is zero in float32
    where raw locations are beyond 9, and a network that has gone there while all samples were
    allowed would never come back.

    Args:
      raw: locations as the network gives them.
      mask: of zeros and ones.
      share: of the samples, above 0.
      members: 1 where a row belongs to a group.
    """
    slope = 0.5 * jax.nn.soft_sign(raw)
    straight = mask + slope - jax.lax.stop_gradient(slope)
    slack = _SLACK * share
    rows = members.sum(axis=0)
    changed = straight.mean(axis=1) @ members / jnp.maximum(rows, 1.0)
    breach = jnp.log((changed + slack) / (share + slack))
    return jnp.where(rows > 0, breach, 0.0)


def snr_breach(
    x: Float[Array, "batch time"], x_adv: Float[Array, "batch time"], snr: float
) -> Float[Array, ""]:
    """Natural logarithm of noise over signal, above that of ``snr`` (power, in dB).

    The mean over rows is taken of the ratio: one of its logarithm would let silent changes of some
    rows pay for loud ones of others.
    """
    signal = jnp.sum(x**2, axis=1)
    noise = jnp.sum((x_adv - x) ** 2, axis=1)
    # The inner choice keeps the gradient of silence finite, the outer one leaves it out.
    ratio = jnp.where(signal > 0, noise / jnp.where(signal > 0, signal, 1.0), 0.0).mean()
    return jnp.log(ratio + 1e-12) + snr * math.log(10.0) / 10.0


def penalty(
    breaches: dict[str, Array], multipliers: dict[str, Array], weights: Float[Array, " groups"]
) -> Array:
    """Augmented Lagrangian: sparsity is met, SNR is at least met; groups count by their rows."""
    total = jnp.zeros(())
    if "sparsity" in breaches:
        breach = breaches["sparsity"]
        total += weights @ (multipliers["sparsity"] * breach + 0.5 * _PENALTY * breach**2)
    if "snr" in breaches:
        # The multiplier of an inequality is never negative: what is kept with room pulls nothing.
        pull = jnp.maximum(multipliers["snr"] + _PENALTY * breaches["snr"], 0.0)
        total += 0.5 * (pull**2 - multipliers["snr"] ** 2) / _PENALTY
    return total


def ascended(
    multipliers: dict[str, Array], breaches: dict[str, Array], rate: float
) -> dict[str, Array]:
    """One step of dual ascent; a breach counts as one e-fold at most, so that none runs away."""
    new = dict(multipliers)
    for name, breach in breaches.items():
        new[name] = multipliers[name] + rate * jnp.clip(breach, -1.0, 1.0)
    new["snr"] = jnp.maximum(new["snr"], 0.0)
    return new

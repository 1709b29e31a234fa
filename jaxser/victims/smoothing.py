"""Smoothed victims: they answer with what a victim makes of an input under Gaussian noise.

    defended = smoothed(load_victim("runs/emo18"), sigma=0.01, samples=16)
    result = run_attack(defended, waveforms, labels, PGD(steps=20), [0.002])

A smoothed victim is randomised: every pass draws its noise anew, by the row's key, so that an
attack's gradient is the mean over ``samples`` draws and each step has other ones (EOT). What the
driver does for randomised victims it does for these.

Source: Cohen, Rosenfeld and Kolter, ICML 2019, equation 1; the mean of the softmax, through which
an attack has a gradient, is Salman et al., NeurIPS 2019, section 2.2.
"""

import dataclasses
import hashlib
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxser.runtime.errors import UsageError
from jaxser.victims.victim import Victim

__all__ = ["check_smoothing", "noisy", "smoothed", "smoothed_fingerprint"]


def smoothed(victim: Victim, sigma: float, samples: int = 16) -> Victim:
    """``victim`` behind Gaussian noise, with the logarithm of its mean softmax as logits.

    Args:
      victim: without noise of its own; the noise is added in its domain, and what is added to is
        not clipped to its bounds, on which a certificate of smoothing rests.
      sigma: standard deviation of the noise, in the units of an input.
      samples: draws that every pass is the mean over, each of which costs one of the victim's own.

    Returns:
      A randomised victim of the same inputs and labels.

    Raises:
      UsageError: noise of no size, no draws, or a victim that is randomised already.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jaxser
      >>> victim = jaxser.Victim(lambda variables, x: 50 * x, {}, ("anger", "joy"), (2,))
      >>> noisy = jaxser.victims.smoothed(victim, sigma=0.1, samples=64)
      >>> noisy.name, noisy.randomised
      ('victim[σ=0.1,n=64]', True)
      >>> x, keys = jnp.array([[0.05, 0.0]]), jax.random.split(jax.random.key(0), 1)
      >>> lead = lambda logits: float(logits[0, 0] - logits[0, 1])
      >>> lead(victim.logits(x)) > lead(noisy.logits(x, keys)) > 0  # it is less sure under noise
      True
    """
    check_smoothing(sigma, samples)
    if victim.randomised:
        raise UsageError(
            f"{victim.name} has noise of its own, so it cannot be smoothed; smooth the victim that "
            "it was made of."
        )
    return dataclasses.replace(
        victim,
        apply=Smoothed(victim.apply, float(sigma), samples),
        # One word, as what stands before the first blank names an architecture in tables.
        name=f"{victim.name}[σ={sigma:g},n={samples}]",
        randomised=True,
        passes=samples,
        embed=None,
    )


def check_smoothing(sigma: float, samples: int) -> None:
    """Refuse noise of no size, and no draws of it.

    Raises:
      UsageError: see the message.
    """
    if not (sigma > 0 and math.isfinite(sigma)):
        raise UsageError(
            f"the noise of a smoothed victim needs a standard deviation over 0, not {sigma:g}; "
            "give one such as 0.01."
        )
    limits = jnp.finfo(jnp.float32)
    if not float(limits.tiny) <= sigma <= float(limits.max):
        raise UsageError(f"noise of standard deviation {sigma:g} is none that float32 can hold.")
    if samples < 1:
        raise UsageError(f"a smoothed victim needs at least 1 draw, and samples is {samples}.")


def smoothed_fingerprint(fingerprint: str, sigma: float, samples: int) -> str:
    """What tells a smoothed victim from others of the same variables.

    Args:
      fingerprint: of the variables.
      sigma, samples: as of :func:`smoothed`.
    """
    return hashlib.sha256(f"{fingerprint} {sigma!r} {samples}".encode()).hexdigest()[:16]


def noisy(
    x: Float[Array, "rows ..."], keys: Key[Array, " rows"], sigma: Float[Array, ""] | float
) -> Float[Array, "rows ..."]:
    """``x`` with Gaussian noise of standard deviation ``sigma``, that of each row by its key."""
    noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
    return x + sigma * noise


@dataclasses.dataclass(frozen=True, eq=False)
class Smoothed:
    """``(variables, x, keys) -> logits`` of a smoothed victim.

    Attributes:
      apply: ``(variables, x) -> logits`` of the victim.
      sigma: of the noise.
      samples: draws.
    """

    apply: Any
    sigma: float
    samples: int

    def __call__(
        self, variables: Any, x: Float[Array, "batch ..."], keys: Key[Array, " batch"]
    ) -> Float[Array, "batch classes"]:
        """The logarithm of the mean of the softmax over the draws."""
        draws = jax.vmap(lambda key: jax.random.split(key, self.samples))(keys)
        copies = jnp.repeat(x, self.samples, axis=0)
        logits = self.apply(variables, noisy(copies, draws.reshape(-1), self.sigma))
        logits = logits.astype(jnp.float32).reshape(len(x), self.samples, -1)
        # In the logarithm throughout, as a confident victim's softmax underflows.
        shares = jax.nn.log_softmax(logits, axis=-1)
        mean: Array = jax.nn.logsumexp(shares, axis=1) - math.log(self.samples)
        return mean

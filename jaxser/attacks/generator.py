"""STAA-Net's sparse perturbation: locations and magnitudes, how they are quantised, what they cost.

    generator = jaxser.load_generator("runs/staa_net")
    delta = generator.perturbation(x, epsilon)            # [batch, time], zero at most places
    attack = jaxser.attacks.StaaNet(generator=generator)  # the same, as an attack like any other

A perturbation is the product of magnitudes ``v`` within ±ε and a mask ``m`` of zeros and ones (the
paper's Eq. 1), made in one pass by one network with two outputs. ``m`` is one where the location
score ``d`` is the threshold γ or more: that is what the authors' code does; their Eq. 2 prints the
opposite, which is the same network with the sign of one convolution turned, and γ from the top.

Source: Chang et al., "STAA-Net: A Sparse and Transferable Adversarial Attack for Speech Emotion
Recognition", arXiv 2402.01227, section 3.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxser.attacks.losses import margin_loss
from jaxser.runtime.errors import InputError, UsageError

__all__ = [
    "ALL_TARGETS",
    "GAMMA",
    "UNKNOWN_EPSILON",
    "Generator",
    "Losses",
    "Magnitudes",
    "Quantisation",
    "Reduction",
    "Weights",
    "adversarial_loss",
    "location_scores",
    "losses_of",
    "magnitudes_of",
    "quantise",
    "soft_mask",
]

Magnitudes = Literal["tanh", "clip"]
Quantisation = Literal["random", "straight_through"]
Reduction = Literal["row", "batch"]

# Of a generator that reaches any class that it is asked for.
ALL_TARGETS = "all"

# The paper's threshold of location scores.
GAMMA = 0.5

# Of a generator whose weights come without a word on it.
UNKNOWN_EPSILON = (math.nan, math.nan)

# Added under the roots: a norm's gradient at zero is then zero, not NaN.
_TINY = 1e-12


def location_scores(raw: Float[Array, "batch time"]) -> Float[Array, "batch time"]:
    """``d = (tanh(raw) + 1) / 2``, in [0, 1]."""
    return 0.5 * (jnp.tanh(raw) + 1.0)


def quantise(d: Float[Array, "batch time"], gamma: float = GAMMA) -> Float[Array, "batch time"]:
    """1 where a location score is γ or more, else 0; no gradient goes through it."""
    return lax.stop_gradient((d >= gamma).astype(d.dtype))


def soft_mask(
    d: Float[Array, "batch time"], key: Key[Array, ""], kind: Quantisation, gamma: float = GAMMA
) -> Float[Array, "batch time"]:
    """The mask while the generator is trained.

    Args:
      d: location scores.
      gamma: see :func:`quantise`.
      key: of the random choice.
      kind: "random", as published (section 3.2.3): every sample is ``d`` itself or quantised, with
        even chances, and learns only where it is ``d``; "straight_through": quantised everywhere,
        with the gradient of ``d`` (Bengio et al., arXiv 1308.3432).
    """
    if kind == "random":
        return jnp.where(jax.random.uniform(key, d.shape) < 0.5, d, quantise(d, gamma))
    return d + lax.stop_gradient(quantise(d, gamma) - d)


def magnitudes_of(
    raw: Float[Array, "batch time"], epsilon: Float[Array, " batch"], kind: Magnitudes
) -> Float[Array, "batch time"]:
    """Within ±ε: ``ε tanh(raw)`` as in the authors' code, or ``raw`` clipped as in their paper."""
    bound = epsilon[:, None]
    return bound * jnp.tanh(raw) if kind == "tanh" else jnp.clip(raw, -bound, bound)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Generator:
    """A trained network that makes adversarial speech in one pass.

    Attributes:
      apply: pure function ``(variables, x [batch, time], target [batch] or None, epsilon [batch] or
        None) -> (locations, magnitudes)``, both ``[batch, time]`` and raw.
      variables: its parameters, and what a CPU prepares of them
        (:func:`jaxser.models.wave_unet.prepare`).
      num_samples: length of its inputs.
      sample_rate: of the speech, in Hz.
      labels: class names of its threat models.
      epsilon: lowest and highest ε that it was trained for; NaN where it is not known.
      target: None: it leaves the prediction, whatever it is; a label: it reaches that one; "all":
        it reaches any that it is asked for.
      magnitudes: see :func:`magnitudes_of`.
      factorised: False: there is no mask, and all samples may change.
      gamma: location score from which on a sample changes.
      shift: samples that the network's input has before the waveform's first, reflected ones.
      name: what tables call it.
      fingerprint: of its parameters.
    """

    apply: Callable[..., tuple[Array, Array]]
    variables: Any
    num_samples: int
    sample_rate: int
    labels: tuple[str, ...]
    epsilon: tuple[float, float]
    target: str | None = None
    magnitudes: Magnitudes = "tanh"
    factorised: bool = True
    gamma: float = GAMMA
    shift: int = 0
    name: str = "staanet"
    fingerprint: str = ""

    def __repr__(self) -> str:
        return f"{self.name} {self.fingerprint}".strip()

    @property
    def conditioned_on_epsilon(self) -> bool:
        """Whether ε is an input of the network, not only a factor of its output."""
        return self.epsilon[0] < self.epsilon[1]

    def perturbation(
        self,
        x: Float[Array, "batch time"],
        epsilon: Float[Array, " batch"],
        target: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch time"]:
        """``m · v`` with the mask quantised, to be added to ``x``.

        Args:
          x: waveforms.
          epsilon: largest amplitude of a change, per row.
          target: classes to reach, of a generator that reaches any.

        Raises:
          InputError: waveforms of another length, or no batch of waveforms.
          UsageError: targets are missing or not wanted.
        """
        self.check_inputs(x.shape)
        if (self.target == ALL_TARGETS) != (target is not None):
            raise UsageError(
                f"{self.name} reaches any class: say which."
                if target is None
                else f"{self.name} does not take targets; leave them out."
            )
        raw_locations, raw_magnitudes = self.raw(self.variables, x, epsilon, target)
        v = magnitudes_of(raw_magnitudes, epsilon, self.magnitudes)
        if not self.factorised:
            return v
        return v * quantise(location_scores(raw_locations), self.gamma)

    def raw(
        self,
        variables: Any,
        x: Float[Array, "batch time"],
        epsilon: Float[Array, " batch"],
        target: Int[Array, " batch"] | None,
    ) -> tuple[Array, Array]:
        """What the network says, before any limit; for training, which has other variables."""
        return self.apply(variables, x, target, epsilon if self.conditioned_on_epsilon else None)

    def check_inputs(self, shape: tuple[int, ...]) -> None:
        """Refuse what is no batch of waveforms of the length that it was trained for.

        Raises:
          InputError: it says so.
        """
        if len(shape) != 2 or shape[1] != self.num_samples:
            raise InputError(
                f"the generator {self.name} takes waveforms of shape [batch, {self.num_samples}], "
                f"but got {tuple(shape)}; it must be trained for that length."
            )


# --- losses --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Weights:
    """Factors of the losses beside the adversarial one: λ_m, λ_s and λ_q of the paper's Eq. 7."""

    magnitude: float = 1e-3
    sparsity: float = 1e-4
    quantisation: float = 1e-4


Losses = Mapping[str, Float[Array, ""]]


def adversarial_loss(
    logits: Float[Array, "batch classes"],
    y: Int[Array, " batch"],
    targeted: bool,
    confidence: float = 0.0,
) -> Float[Array, " batch"]:
    """Carlini & Wagner's margin (the paper's Eq. 3): how far a row is from what is wanted.

    Args:
      logits: of the adversarial speech.
      y: classes to leave, or to reach where ``targeted``.
      targeted: see ``y``.
      confidence: margin beyond which more is no better (φ).
    """
    margin = margin_loss(logits, y)
    return jnp.maximum(margin if targeted else -margin, -confidence)


def losses_of(
    adversarial: Float[Array, " batch"],
    v: Float[Array, "batch time"],
    m: Float[Array, "batch time"] | None,
    d: Float[Array, "batch time"] | None,
    reduction: Reduction,
    gamma: float = GAMMA,
) -> Losses:
    """The four losses (the paper's Eqs. 3–6), without their weights.

    Args:
      adversarial: of every row.
      v: magnitudes.
      m: mask, as :func:`soft_mask` makes it; None without factorisation, where the sparsity loss
        is the L1 norm of ``v`` and there is nothing to quantise (section 5.4).
      d: location scores; None likewise.
      reduction: "batch": summed over the batch, and norms of the whole batch, as in the authors'
        code, so that the balance of the losses changes with the batch size; "row": means over the
        rows of each row's own loss and norms, which does not. Over B rows that are alike, "batch"
        is B times "row", its two L2 norms √B times: weights of those weigh √B more by "row".
      gamma: see :func:`quantise`.
    """
    sparse = v if m is None else m
    distance = jnp.zeros_like(v) if d is None else d - quantise(d, gamma)
    if reduction == "batch":
        return {
            "adversarial": adversarial.sum(),
            "magnitude": jnp.sqrt(jnp.sum(v**2) + _TINY),
            "sparsity": jnp.abs(sparse).sum(),
            "quantisation": jnp.sqrt(jnp.sum(distance**2) + _TINY),
        }
    return {
        "adversarial": adversarial.mean(),
        "magnitude": jnp.sqrt(jnp.sum(v**2, axis=1) + _TINY).mean(),
        "sparsity": jnp.abs(sparse).sum(axis=1).mean(),
        "quantisation": jnp.sqrt(jnp.sum(distance**2, axis=1) + _TINY).mean(),
    }

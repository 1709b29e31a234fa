"""Victims that answer with probabilities, as attacks of many papers were given them.

    saturated = with_probabilities(load_victim("runs/cnn_lstm_emodb", "features"))
    result = run_attack(saturated, features, None, DeepFool(compat="art"), [float("inf")])

Attacks are defined on logits. Behind a softmax the gradient of a confident victim is nearly zero,
so that attacks which step by its size lose their way, and what withstands them is no more robust
for it (Carlini & Wagner, S&P 2017, on defensive distillation; Athalye et al., ICML 2018). Published
code does it where networks end in a softmax layer: this is for comparison with its figures.
"""

import dataclasses
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxser.victims.victim import Victim

__all__ = ["probabilities_fingerprint", "with_probabilities"]


def with_probabilities(victim: Victim) -> Victim:
    """``victim`` with its softmax in place of its logits: of the same inputs and answers.

    Examples:
      >>> import jax.numpy as jnp
      >>> import jaxser
      >>> victim = jaxser.Victim(lambda variables, x: x, {}, ("anger", "joy"), (2,))
      >>> softmax = jaxser.victims.with_probabilities(victim)
      >>> softmax.name, softmax.logits(jnp.array([[0.0, 0.0]])).tolist()
      ('victim[softmax]', [[0.5, 0.5]])
    """
    return dataclasses.replace(
        victim,
        apply=Probabilities(victim.apply),
        # One word, as what stands before the first blank names an architecture in tables.
        name=f"{victim.name}[softmax]",
    )


def probabilities_fingerprint(fingerprint: str) -> str:
    """What tells rows of attacks on probabilities from those on logits of the same variables."""
    return hashlib.sha256(f"{fingerprint} probabilities".encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True, eq=False)
class Probabilities:
    """``(variables, x, ...) -> softmax of the logits`` in float32.

    Attributes:
      apply: of the victim; whatever comes after x is for it.
    """

    apply: Any

    def __call__(
        self, variables: Any, x: Float[Array, "batch ..."], *more: Any
    ) -> Float[Array, "batch classes"]:
        return jax.nn.softmax(self.apply(variables, x, *more).astype(jnp.float32), axis=-1)

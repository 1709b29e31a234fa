"""Randomised victims: their logits under noise that is drawn from keys, one per row.

    logits_fn = RandomLogits(apply, variables, keys)      # apply(variables, x, keys) -> logits
    other = resample(logits_fn, 1)                        # the same victim under other noise
    several = independent_draws(logits_fn, 20)            # for inputs repeated 20 times

The driver hands an attack such a function where the victim is randomised; an attack that does not
look at its type sees the same noise in all calls of a step.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxser.attacks.base import LogitsFn

__all__ = ["RandomLogits", "independent_draws", "resample"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RandomLogits:
    """The logits of a randomised victim, under the noise that ``keys`` stand for.

    The driver makes one per step, with fresh keys; calls within a step see the same noise unless
    the attack asks for another by :func:`resample`.

    Attributes:
      apply: ``(variables, x [batch, ...], keys [batch]) -> logits``.
      variables: its first argument.
      keys: one per row. An ``x`` of n times as many rows, each row's candidates next to each
        other, is taken too: candidates of a row share its noise.
    """

    apply: Callable[..., Array] = dataclasses.field(metadata={"static": True})
    variables: Any
    keys: Key[Array, " batch"]

    def __call__(self, x: Float[Array, "rows ..."]) -> Float[Array, "rows classes"]:
        keys = jnp.repeat(self.keys, x.shape[0] // self.keys.shape[0], axis=0)
        return self.apply(self.variables, x, keys)


def resample(logits_fn: LogitsFn, draw: int | Int[Array, ""]) -> LogitsFn:
    """``logits_fn`` under other noise, one for each ``draw``; itself where there is none."""
    if not isinstance(logits_fn, RandomLogits):
        return logits_fn
    keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(logits_fn.keys, draw)
    return dataclasses.replace(logits_fn, keys=keys)


def independent_draws(logits_fn: RandomLogits, draws: int) -> RandomLogits:
    """For inputs repeated ``draws`` times, copies of a row together: each under its own noise."""
    keys = jax.vmap(lambda draw: resample(logits_fn, draw).keys, out_axes=1)(  # type: ignore[attr-defined]
        jnp.arange(draws)
    )
    return dataclasses.replace(logits_fn, keys=keys.reshape(-1))

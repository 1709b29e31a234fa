"""Attacks made for tests of the driver: what they do is plain, so that the driver's part shows."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxser.attacks.base import AttackState, BaseAttack, LogitsFn, freeze_done, step_keys
from jaxser.attacks.gradient import class_gradients
from jaxser.attacks.losses import is_successful, prediction
from jaxser.attacks.projections import Bounds, Norm, per_row


@dataclasses.dataclass(frozen=True)
class Nearest(BaseAttack):
    """The nearest point of another class of a linear victim, in the L2 norm; exact in one step.

    Attributes:
      patience: steps that a row waits before it moves; row i waits ``patience * (y % 2)`` more.
      gives_up_beyond: rows whose nearest point is further away find nothing.
    """

    name: ClassVar[str] = "nearest"

    bounds: Bounds = None
    patience: int = 0
    gives_up_beyond: float = float("inf")

    @property
    def max_steps(self) -> int:
        return 2 * self.patience + 1

    @property
    def finishes_early(self) -> bool:
        return self.patience > 0

    @property
    def epsilon_norm(self) -> Norm:
        return "l2"

    @property
    def minimal_norm(self) -> bool:
        return True

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        logits, gradients = class_gradients(logits_fn, state.x)
        rows = jnp.arange(len(state.y))
        gap = logits[rows, state.y][:, None] - logits
        along = gradients - gradients[rows, state.y][:, None]
        length = jnp.sqrt(jnp.square(along).sum(axis=-1))
        own = jax.nn.one_hot(state.y, logits.shape[1], dtype=bool)
        distance = jnp.where(own, jnp.inf, gap / jnp.where(own, 1.0, length))
        best = distance.argmin(axis=1)
        # A little over the border, where the class changes.
        factor = 1.0001 * gap[rows, best] / jnp.square(length[rows, best])
        moved = state.x + per_row(factor, state.x) * along[rows, best]
        reached = is_successful(prediction(logits), state.y, self.targeted)
        far = distance[rows, best] > self.gives_up_beyond
        stay = reached | far
        arrived = reached | (state.steps >= self.patience * (1 + state.y % 2))
        new = dataclasses.replace(
            state,
            x_adv=jnp.where(per_row(~stay & arrived, moved), moved, state.x_adv),
            done=arrived,
            steps=state.steps + 1,
            queries=state.queries + 1,
            gradients=state.gradients + logits.shape[1],
        )
        return freeze_done(state, new)


@dataclasses.dataclass(frozen=True)
class Waiting(BaseAttack):
    """Moves nothing and ends after a random number of steps, drawn from the row's key.

    Attributes:
      tail: 0: geometric with mean ``mean``; else Pareto with this exponent and smallest ``mean``.
      mean: see ``tail``.
      most: steps after which a row ends in any case.
    """

    name: ClassVar[str] = "waiting"

    tail: float = 0.0
    mean: float = 10.0
    most: int = 500

    @property
    def max_steps(self) -> int:
        return self.most

    @property
    def finishes_early(self) -> bool:
        return True

    def length(self, keys: Array) -> Array:
        """Steps of each row."""
        uniform = jax.vmap(jax.random.uniform)(step_keys(keys, jnp.zeros(len(keys), jnp.int32)))
        if self.tail:
            drawn = self.mean * (1.0 - uniform) ** (-1.0 / self.tail)
        else:
            drawn = 1.0 + jnp.log1p(-uniform) / jnp.log1p(-1.0 / self.mean)
        return jnp.clip(drawn.astype(jnp.int32), 1, self.most)

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        new = dataclasses.replace(
            state,
            done=state.steps + 1 >= self.length(state.keys),
            steps=state.steps + 1,
            queries=state.queries + 1,
        )
        return freeze_done(state, new)


@dataclasses.dataclass(frozen=True)
class Jump(BaseAttack):
    """Adds a constant to every sample, up to ε.

    Attributes:
      size: the constant, as a share of ε.
      population: copies of each row in the one forward pass.
    """

    name: ClassVar[str] = "jump"

    size: float = 1.0
    population: int = 1

    @property
    def max_steps(self) -> int:
        return 1

    @property
    def forward_rows(self) -> int:
        return self.population

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        logits_fn(jnp.repeat(state.x, self.population, axis=0))
        moved = state.x + per_row(self.size * state.epsilon, state.x)
        new = dataclasses.replace(
            state,
            x_adv=moved,
            done=jnp.ones_like(state.done),
            steps=state.steps + 1,
            queries=state.queries + self.population,
        )
        return freeze_done(state, new)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeardState(AttackState):
    """``heard``: logits of every step, ``[batch, steps, classes]``."""

    heard: Any


@dataclasses.dataclass(frozen=True)
class Listening(BaseAttack):
    """Puts the logits that it sees at each step into the first samples of ``x_adv``."""

    name: ClassVar[str] = "listening"

    steps: int = 3
    copies: int = 1

    @property
    def max_steps(self) -> int:
        return self.steps

    def init(
        self, logits_fn: LogitsFn, keys: Array, x: Array, y: Array, epsilon: Array
    ) -> HeardState:
        plain = super().init(logits_fn, keys, x, y, epsilon)
        fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
        heard = jnp.zeros((len(x), self.steps, logits_fn(x).shape[1]))
        return HeardState(**fields, heard=heard)

    def step(self, logits_fn: LogitsFn, state: HeardState) -> HeardState:
        logits = logits_fn(jnp.repeat(state.x, self.copies, axis=0))
        rows = jnp.arange(len(state.y))
        heard = state.heard.at[rows, state.steps].set(logits[:: self.copies])
        flat = heard.reshape(len(rows), -1)
        new = dataclasses.replace(
            state,
            heard=heard,
            x_adv=state.x.at[:, : flat.shape[1]].set(flat),
            done=state.steps + 1 >= self.steps,
            steps=state.steps + 1,
        )
        return freeze_done(state, new)

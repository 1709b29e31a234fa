"""The attack protocol: two pure methods, and a state whose leaves all start with the batch axis.

    attack = PGD(steps=20)
    state = attack.init(logits_fn, row_keys(jax.random.key(0), ids), x, y, epsilon)
    while not state.done.all():
        state = attack.step(logits_fn, state)

An attack is a frozen, hashable dataclass of hyper-parameters. ``logits_fn`` maps
``[batch, ...]`` to logits ``[batch, classes]``; ``x [batch, ...]``, ``y [batch]`` (the labels to
leave, or to reach when ``targeted``), ``epsilon [batch]`` and the keys are traced and per row.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from jaxser.attacks.projections import Bounds, per_row
from jaxser.errors import UsageError

__all__ = [
    "FLAG_NAMES",
    "MARGIN_FALLBACK",
    "NON_FINITE",
    "ZERO_GRADIENT",
    "Attack",
    "AttackState",
    "LogitsFn",
    "SharedDirection",
    "check_bounds",
    "check_positive",
    "freeze_done",
    "new_state",
    "row_keys",
    "step_keys",
]

LogitsFn = Callable[[Float[Array, "batch ..."]], Float[Array, "batch classes"]]

MARGIN_FALLBACK = 1
ZERO_GRADIENT = 2
NON_FINITE = 4
FLAG_NAMES = {
    MARGIN_FALLBACK: "margin fallback",
    ZERO_GRADIENT: "zero gradient",
    NON_FINITE: "non-finite logits or gradient",
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttackState:
    """What every attack carries per row; attacks that need more add fields in a subclass.

    Attributes:
      x: the clean input.
      y: the label to leave, or to reach.
      epsilon: the budget.
      keys: the row's random key, which depends on the seed and the utterance alone.
      x_adv: the best adversarial input so far.
      done: True once the row has its result; the row is frozen from then on.
      steps: steps taken.
      queries: forward passes spent.
      gradients: backward passes spent.
      flags: union of MARGIN_FALLBACK, ZERO_GRADIENT and NON_FINITE.
    """

    x: Float[Array, "batch ..."]
    y: Int[Array, "batch"]
    epsilon: Float[Array, "batch"]
    keys: Key[Array, "batch"]
    x_adv: Float[Array, "batch ..."]
    done: Bool[Array, "batch"]
    steps: Int[Array, "batch"]
    queries: Int[Array, "batch"]
    gradients: Int[Array, "batch"]
    flags: UInt[Array, "batch"]


State = TypeVar("State", bound=AttackState)


@runtime_checkable
class Attack(Protocol):
    """What the driver asks of an attack.

    Attributes:
      name: registry name, as on the command line.
      targeted: whether ``y`` is the label to reach.
      bounds: valid range of an input, or None.
    """

    name: ClassVar[str]

    @property
    def targeted(self) -> bool: ...

    @property
    def bounds(self) -> Bounds: ...

    @property
    def max_steps(self) -> int:
        """Steps after which every row is done."""
        ...

    @property
    def finishes_early(self) -> bool:
        """Whether rows may be done before ``max_steps``; the driver then refills their slots."""
        ...

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, "batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, "batch"],
        epsilon: Float[Array, "batch"],
    ) -> Any:
        """State before the first step."""
        ...

    def step(self, logits_fn: LogitsFn, state: Any) -> Any:
        """State after one more step; rows that are done stay as they are."""
        ...


@runtime_checkable
class SharedDirection(Protocol):
    """An attack whose direction does not depend on ε: one gradient serves a whole sweep."""

    def direction(
        self, logits_fn: LogitsFn, x: Float[Array, "batch ..."], y: Int[Array, "batch"]
    ) -> tuple[Float[Array, "batch ..."], UInt[Array, "batch"]]:
        """The direction of each row, and its flags; one forward and one backward pass."""
        ...

    def move(
        self,
        x: Float[Array, "batch ..."],
        direction: Float[Array, "batch ..."],
        epsilon: Float[Array, "batch"],
    ) -> Float[Array, "batch ..."]:
        """The adversarial input at ``epsilon``."""
        ...


def row_keys(key: Key[Array, ""], ids: UInt[Array, "batch"]) -> Key[Array, "batch"]:
    """One key per row: the same utterance has the same randomness wherever it sits."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)


def step_keys(keys: Key[Array, "batch"], steps: Int[Array, "batch"]) -> Key[Array, "batch"]:
    """Keys of one step; step 0 is ``init``'s."""
    return jax.vmap(jax.random.fold_in)(keys, steps)


def new_state(
    keys: Key[Array, "batch"],
    x: Float[Array, "batch ..."],
    y: Int[Array, "batch"],
    epsilon: Float[Array, "batch"],
    x_adv: Float[Array, "batch ..."] | None = None,
) -> AttackState:
    """State with nothing spent, starting from ``x_adv`` (default: the clean input)."""
    zeros = jnp.zeros(x.shape[:1], jnp.int32)
    return AttackState(
        x=x,
        y=y,
        epsilon=epsilon,
        keys=keys,
        x_adv=x if x_adv is None else x_adv,
        done=jnp.zeros(x.shape[:1], bool),
        steps=zeros,
        queries=zeros,
        gradients=zeros,
        flags=zeros.astype(jnp.uint32),
    )


def freeze_done(old: State, new: State) -> State:
    """``new`` for the rows that were still running, ``old`` for those that were done."""

    def choose(before: Array, after: Array) -> Array:
        return after if after is before else jnp.where(per_row(old.done, after), before, after)

    return jax.tree.map(choose, old, new)


def check_bounds(attack: str, bounds: Bounds) -> None:
    """Refuse bounds that are not (low, high) with low < high."""
    if bounds is not None and not (len(bounds) == 2 and bounds[0] < bounds[1]):
        raise UsageError(f"{attack}: bounds must be (low, high) with low < high, not {bounds!r}.")


def check_positive(attack: str, **values: float | None) -> None:
    """Refuse a hyper-parameter that is not a positive, finite number; None is let through."""
    for name, value in values.items():
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{attack}: {name} must be positive and finite, not {value!r}.")

"""The attack protocol: two pure methods, and a state whose leaves all start with the batch axis.

    attack = PGD(steps=20)
    state = attack.init(logits_fn, row_keys(jax.random.key(0), ids), x, y, epsilon)
    while not state.done.all():
        state = attack.step(logits_fn, state)

An attack is a frozen, hashable dataclass of hyper-parameters. ``logits_fn`` maps
``[batch, ...]`` to logits ``[batch, classes]``; ``x [batch, ...]``, ``y [batch]`` (the labels to
leave, or to reach when ``targeted``), ``epsilon [batch]`` and the keys are traced and per row, so
that one compiled program serves every ε, label and seed; what changes shapes or the structure of
loops is a field of the dataclass.

Beside this file: ``hyperparameters`` (checks), ``gradient`` (of losses and logits), ``losses``,
``projections`` and ``randomised`` (victims with noise).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer, Key, UInt

from jaxser.attacks.hyperparameters import check_bounds
from jaxser.attacks.projections import Bounds, Norm, per_row

__all__ = [
    "BATCH_DEPENDENT",
    "FEW_CLASSES",
    "FLAG_NAMES",
    "MARGIN_FALLBACK",
    "NON_FINITE",
    "PROBABILITIES",
    "RANDOMISED",
    "ZERO_GRADIENT",
    "Attack",
    "AttackState",
    "BaseAttack",
    "LocalFunction",
    "LocalLogits",
    "LogitsFn",
    "MinimalNormAttack",
    "NetworkAttack",
    "SharedDirection",
    "State",
    "extended",
    "freeze_done",
    "new_state",
    "row_keys",
    "step_keys",
]

LogitsFn = Callable[[Float[Array, "batch ..."]], Float[Array, "batch classes"]]

# Bits, so that a row's flags over all steps are the union of each step's.
MARGIN_FALLBACK = 1
ZERO_GRADIENT = 2
NON_FINITE = 4
FEW_CLASSES = 8
RANDOMISED = 16
PROBABILITIES = 32
BATCH_DEPENDENT = 64
FLAG_NAMES = {
    MARGIN_FALLBACK: "margin fallback",
    ZERO_GRADIENT: "zero gradient",
    NON_FINITE: "non-finite logits or gradient",
    FEW_CLASSES: "fewer classes than the loss needs",
    RANDOMISED: "randomised victim",
    PROBABILITIES: "output looks like probabilities",
    BATCH_DEPENDENT: "logits depend on the batch",
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
      flags: union of the bits in FLAG_NAMES.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jaxser
      >>> keys, x = jax.random.split(jax.random.key(0), 1), jnp.float32([[0.3, -0.1]])
      >>> attack = jaxser.attacks.PGD(steps=5, random_start=False, bounds=(-1, 1))
      >>> state = attack.init(lambda x: x, keys, x, jnp.array([0]), jnp.float32([0.3]))
      >>> state = attack.step(lambda x: x, state)
      >>> state.steps.tolist(), state.gradients.tolist(), state.done.tolist()
      ([1], [1], [False])
    """

    x: Float[Array, "batch ..."]
    y: Int[Array, " batch"]
    epsilon: Float[Array, " batch"]
    keys: Key[Array, " batch"]
    x_adv: Float[Array, "batch ..."]
    done: Bool[Array, " batch"]
    steps: Int[Array, " batch"]
    queries: Int[Array, " batch"]
    gradients: Int[Array, " batch"]
    flags: UInt[Array, " batch"]


State = TypeVar("State", bound=AttackState)


@runtime_checkable
class Attack(Protocol):
    """What the driver asks of an attack.

    Attributes:
      name: registry name, as on the command line.
      targeted: whether ``y`` is the label to reach.
      bounds: valid range of an input, or None.

    Examples:
      >>> import jaxser
      >>> attack = jaxser.attacks.PGD(steps=40, early_stop=True)
      >>> attack.name, attack.max_steps, attack.finishes_early, attack.epsilon_norm
      ('pgd', 40, True, 'linf')
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

    @property
    def epsilon_norm(self) -> Norm:
        """The norm of the perturbation that ε bounds."""
        ...

    @property
    def minimal_norm(self) -> bool:
        """Whether the attack looks for the smallest perturbation whatever ε.

        Such an attack runs once per utterance, with an infinite ε; its ``x_adv`` is the smallest
        adversarial input found, or the clean input where there is none, and the driver compares
        its norm with every ε of the list.
        """
        ...

    @property
    def forward_rows(self) -> int:
        """Inputs per row in the attack's largest forward pass (a population, say)."""
        ...

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> Any:
        """State before the first step."""
        ...

    def step(self, logits_fn: LogitsFn, state: Any) -> Any:
        """State after one more step; rows that are done stay as they are."""
        ...


@dataclasses.dataclass(frozen=True)
class BaseAttack:
    """What most attacks have in common: fields, and what the driver asks unless said otherwise.

    Attributes:
      targeted: go towards the label instead of leaving it.
      bounds: valid range of an input, or None.

    Examples:
      An attack of one's own says what a step does, and after how many a row is done.

      >>> import dataclasses, numpy as np
      >>> import jaxser
      >>> @dataclasses.dataclass(frozen=True)
      ... class Quieter(jaxser.attacks.BaseAttack):
      ...     name = "quieter"
      ...     max_steps = 1
      ...     def step(self, logits_fn, state):
      ...         moved = state.x * (1 - state.epsilon[:, None])
      ...         return dataclasses.replace(state, x_adv=moved, done=~state.done)
      >>> result = jaxser.run_attack(lambda x: x, np.float32([[0.4, -0.2]]), [0], Quieter(), 0.5)
      >>> print(result.x_adv[0, 0])
      [ 0.2 -0.1]
    """

    name: ClassVar[str]

    targeted: bool = False
    bounds: Bounds = (-1.0, 1.0)

    def __post_init__(self) -> None:
        check_bounds(self.name, self.bounds)

    @property
    def finishes_early(self) -> bool:
        return False

    @property
    def epsilon_norm(self) -> Norm:
        return "linf"

    @property
    def minimal_norm(self) -> bool:
        return False

    @property
    def forward_rows(self) -> int:
        return 1

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> Any:
        """The clean input."""
        return new_state(keys, x, y, epsilon)


@dataclasses.dataclass(frozen=True)
class MinimalNormAttack(BaseAttack):
    """An attack that looks for the smallest perturbation, and whose rows end when they have it."""

    @property
    def finishes_early(self) -> bool:
        return True

    @property
    def minimal_norm(self) -> bool:
        return True


@runtime_checkable
class LocalFunction(Protocol):
    """A victim's function that knows what a few changed elements do without a forward pass.

    A position is an index along the first two axes of an input (the first, of a waveform), flat;
    elements along the other axes are its channels.
    """

    def __call__(
        self, variables: Any, x: Float[Array, "batch ..."]
    ) -> Float[Array, "batch classes"]: ...

    def is_local(self, shape: tuple[int, ...], positions: int) -> bool:
        """Whether inputs of ``shape`` with so many changed positions cost less this way."""
        ...

    def encode(self, variables: Any, x: Float[Array, "batch ..."]) -> Any:
        """What :meth:`logits_at` needs of clean inputs; leaves start with the batch axis."""
        ...

    def logits_at(
        self,
        variables: Any,
        x: Float[Array, "batch ..."],
        encoding: Any,
        index: Int[Array, "batch candidates positions"],
        values: Float[Array, "batch candidates positions channels"],
    ) -> Float[Array, "batch candidates classes"]:
        """The logits of ``x`` with ``values`` at ``index``, those of a forward pass but for
        rounding; a position that comes twice has the same values both times."""
        ...


@dataclasses.dataclass(frozen=True)
class LocalLogits:
    """The logits of a victim whose function is a :class:`LocalFunction`."""

    function: LocalFunction
    variables: Any

    def __call__(self, x: Float[Array, "rows ..."]) -> Float[Array, "rows classes"]:
        return self.function(self.variables, x)


@runtime_checkable
class SharedDirection(Protocol):
    """An attack whose direction does not depend on ε: one gradient serves a whole sweep."""

    def direction(
        self, logits_fn: LogitsFn, x: Float[Array, "batch ..."], y: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch ..."], UInt[Array, " batch"]]:
        """The direction of each row, and its flags; one forward and one backward pass."""
        ...

    def move(
        self,
        x: Float[Array, "batch ..."],
        direction: Float[Array, "batch ..."],
        epsilon: Float[Array, " batch"],
    ) -> Float[Array, "batch ..."]:
        """The adversarial input at ``epsilon``."""
        ...


@runtime_checkable
class NetworkAttack(Protocol):
    """An attack that is a trained network, whose parameters are arguments of the programs.

    Attributes:
      variables: a pytree of arrays.
    """

    @property
    def variables(self) -> Any: ...

    def with_variables(self, variables: Any) -> Attack:
        """The same attack with other parameters; traced ones, within a program."""
        ...


def row_keys(key: Key[Array, ""], ids: UInt[Array, " batch"]) -> Key[Array, " batch"]:
    """One key per row: the same utterance has the same randomness wherever it sits.

    By ``fold_in`` of the utterance's id: ``split`` would give keys by position, and a row's result
    would change with its batch.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)


def step_keys(keys: Key[Array, " batch"], steps: Integer[Array, " batch"]) -> Key[Array, " batch"]:
    """Keys of one step; step 0 is ``init``'s.

    From the row's own count of steps, not the loop's: the rows of a batch started at different
    times where slots are refilled.
    """
    return jax.vmap(jax.random.fold_in)(keys, steps)


def new_state(
    keys: Key[Array, " batch"],
    x: Float[Array, "batch ..."],
    y: Int[Array, " batch"],
    epsilon: Float[Array, " batch"],
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


def extended(state: AttackState, cls: type[State], **more: Any) -> State:
    """``state`` as the subclass ``cls``, with the fields that it has more, or other values."""
    # Not dataclasses.asdict, which copies every leaf.
    return cls(**{**vars(state), **more})


def freeze_done(old: State, new: State) -> State:
    """``new`` for the rows that were still running, ``old`` for those that were done."""

    # A step runs on all rows of a batch, and they end at different ones: without this a row's
    # result would depend on how long its neighbours took. A leaf that a step has not touched
    # needs no select.
    def choose(before: Array, after: Array) -> Array:
        return after if after is before else jnp.where(per_row(old.done, after), before, after)

    return jax.tree.map(choose, old, new)

"""The programs of a run: what its devices compute for a victim, and for an attack on it.

    programs = AttackPrograms(VictimFunction(victim.apply, True, False), PGD(), mesh, 16, 1)
    state, report = programs.start(variables, key, rows, state)
    state, report = programs.advance(variables, wanted, state)

The victim's variables, ε, labels, ids and the key are arguments: none of them is baked in, so none
of them compiles anew. Every device runs its programs on its own slice of the batch (``shard_map``
over "data"), and no row ever moves from one to another.

A randomised victim gets one key per row and forward pass, made from the row's own key, so that
its noise depends on the seed, the utterance and the step, and on nothing else.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Integer, Key

from jaxser.attacks.base import (
    Attack,
    LocalFunction,
    LocalLogits,
    LogitsFn,
    NetworkAttack,
    SharedDirection,
    row_keys,
    step_keys,
)
from jaxser.attacks.losses import prediction
from jaxser.attacks.projections import row_norm
from jaxser.attacks.randomised import RandomLogits
from jaxser.driver.ahead_of_time import Program
from jaxser.driver.failures import failed_on
from jaxser.results.perturbation import perturbation_measures
from jaxser.runtime.errors import InputError

__all__ = [
    "CLEAN",
    "CLEAN_AGAIN",
    "SCORE",
    "AttackPrograms",
    "Report",
    "VictimFunction",
    "VictimPrograms",
    "collect_program",
    "per_device",
]

# Which noise of a randomised victim a pass sees; attack steps have their own numbers, from 0 up,
# and further looks at a finished row those below these, from the largest down.
SCORE = np.uint32(2**32 - 1)
CLEAN = np.uint32(2**32 - 2)
CLEAN_AGAIN = np.uint32(2**32 - 3)

# What the row's key is folded with for the victim, so that its noise is not the attack's: attacks
# fold in their steps, which stay far below.
_VICTIM_SALT = np.uint32(2**32 - 1)


class VictimFunction:
    """A victim's function in one calling convention, and a cache key: functions by identity.

    Args:
      function: ``(variables, x, *keys) -> logits``, or ``(x) -> logits``.
      takes_variables: which of the two it is.
      randomised: whether it takes one key per row as its last argument.
    """

    def __init__(
        self, function: Callable[..., Any], takes_variables: bool, randomised: bool
    ) -> None:
        self._function = function
        self._takes_variables = takes_variables
        self.randomised = randomised

    def __call__(self, variables: Any, x: Float[Array, "batch ..."], *keys: Array) -> Array:
        arguments = (variables, x) if self._takes_variables else (x,)
        try:
            logits = self._function(*arguments, *keys)
        except (InputError, MemoryError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:  # whatever a user's function does with arrays of JAX
            raise failed_on(x, error) from error
        _check_logits(logits)
        return jnp.asarray(logits, jnp.float32)

    def logits_fn(
        self, variables: Any, keys: Key[Array, " batch"], draw: Integer[Array, " batch"]
    ) -> LogitsFn:
        """Logits under the noise of ``draw``, where there is noise."""
        if not self.randomised:
            if self._takes_variables and isinstance(self._function, LocalFunction):
                return LocalLogits(self._function, variables)
            return functools.partial(self, variables)
        own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, _VICTIM_SALT)
        return RandomLogits(apply=self, variables=variables, keys=step_keys(own, draw))

    # A user's function may have no hash, or an equality that compares arrays: what counts is
    # whether it is the same object.
    def __hash__(self) -> int:
        return id(self._function)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, VictimFunction)
            and self._function is other._function
            and self._takes_variables == other._takes_variables
            and self.randomised == other.randomised
        )


def _check_logits(logits: Any) -> None:
    """Refuse outputs that are no array of floats."""
    if isinstance(logits, Mapping):
        what = f"a dict of {', '.join(map(str, logits))}"[:80]
    elif isinstance(logits, tuple | list):
        what = f"a {type(logits).__name__} of {len(logits)}"
    elif not isinstance(logits, jax.Array | np.ndarray):
        what = f"a {type(logits).__name__}"
    elif not jnp.issubdtype(logits.dtype, jnp.floating):
        what = f"{logits.dtype}{list(logits.shape)}"
    else:
        return
    raise InputError(
        f"the victim's function must return logits, one array of floats [batch, classes], but "
        f"returns {what}; wrap it in a function that returns the logits alone."
    )


def per_device(function: Callable[..., Any], mesh: Mesh, shared: int) -> Callable[..., Any]:
    """``function`` on every device's own rows; its first ``shared`` arguments are whole.

    By ``shard_map`` and not by sharded arguments alone: so nothing that a victim or an attack does
    along the batch (a sort, a reduction, an index) can make the compiler move rows between devices,
    and a device's loop ends when its own rows are done.
    """

    @functools.wraps(function)  # profiles call the program by this name
    def on_each_device(*arguments: Any) -> Any:
        rows = len(arguments) - shared
        return jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(PartitionSpec(),) * shared + (PartitionSpec("data"),) * rows,
            out_specs=PartitionSpec("data"),
            check_vma=False,
        )(*arguments)

    return on_each_device


class VictimPrograms:
    """What runs on the devices whatever the attack."""

    def __init__(self, victim: VictimFunction, mesh: Mesh, num_classes: int) -> None:
        self.num_classes, self.randomised = num_classes, victim.randomised

        def score(
            variables: Any, key: Array, draw: Array, ids: Array, x: Array, x_adv: Array
        ) -> dict[str, Array]:
            draws = jnp.broadcast_to(draw, ids.shape)
            logits = victim.logits_fn(variables, row_keys(key, ids), draws)(x_adv)
            logits = logits.astype(jnp.float32)
            return {
                "logits": logits,
                "prediction": prediction(logits),
                "largest": row_norm(x_adv, "linf"),
                **perturbation_measures(x, x_adv),
            }

        # It serves clean inputs too, so that there is one program less to compile.
        self.score = Program(per_device(score, mesh, 3))


@dataclasses.dataclass(frozen=True)
class Report:
    """What a call tells the host of every slot, by columns of one array of its own.

    Not of the state, which the next call takes over before the host has looked.
    """

    done: Bool[np.ndarray, " slots"]
    steps: Int[np.ndarray, " slots"]
    queries: Int[np.ndarray, " slots"]
    taken: Int[np.ndarray, " slots"]

    @staticmethod
    def of(state: Any, taken: Int[Array, ""]) -> Int[Array, "slots columns"]:
        """On the devices; ``taken`` are the steps that the call took."""
        columns = (
            state.done,
            state.steps,
            state.queries,
            jnp.broadcast_to(taken, state.steps.shape),
        )
        return jnp.stack([column.astype(jnp.int32) for column in columns], axis=1)

    @classmethod
    def read(cls, report: Int[Array, "slots columns"]) -> "Report":
        """On the host; waits until the call is through."""
        done, *others = np.asarray(report).T
        return cls(done.astype(bool), *others)


class AttackPrograms:
    """What runs on the devices for one attack.

    ``start`` makes the state of rows and puts it into their slots, so that a refill costs what its
    rows cost and every row starts in the same program; ``advance`` takes steps. Both return the
    state and a :class:`Report` of it.

    Args:
      victim: what is attacked.
      attack: with what.
      mesh: the devices.
      slots: rows of the state, over all devices.
      inner_steps: most steps per call of ``advance``; 1 where the host loops.
    """

    def __init__(
        self,
        victim: VictimFunction,
        attack: Attack,
        mesh: Mesh,
        slots: int,
        inner_steps: int,
    ) -> None:
        self._mesh = mesh
        self._packed: dict[int, Program] = {}

        def with_variables(own: Any) -> Attack:
            return attack.with_variables(own) if isinstance(attack, NetworkAttack) else attack

        def init(variables: tuple[Any, Any], key: Array, rows: dict[str, Array]) -> Any:
            of_victim, own = variables
            keys = row_keys(key, rows["ids"])
            logits_fn = victim.logits_fn(of_victim, keys, jnp.zeros_like(rows["ids"]))
            state = with_variables(own).init(logits_fn, keys, rows["x"], rows["y"], rows["epsilon"])
            return dataclasses.replace(state, done=state.done | ~rows["real"])

        def start(
            variables: tuple[Any, Any], key: Array, rows: dict[str, Array], *before: Any
        ) -> tuple[Any, Array]:
            state = init(variables, key, rows)
            for old in before:
                state = _placed(old, state, rows["slot"])
            return state, Report.of(state, jnp.int32(0))

        def step(variables: tuple[Any, Any], state: Any) -> Any:
            of_victim, own = variables
            logits_fn = victim.logits_fn(of_victim, state.keys, state.steps + 1)
            return with_variables(own).step(logits_fn, state)

        def advance(variables: tuple[Any, Any], wanted: Array, state: Any) -> tuple[Any, Array]:
            """Steps until ``wanted`` rows more are done; at most ``inner_steps``."""
            if inner_steps == 1:
                state = step(variables, state)
                return state, Report.of(state, jnp.int32(1))
            if not attack.finishes_early:
                # A loop of known length needs no look at its condition. A row that is done stays as
                # it is, so the steps past an attack's last change nothing.
                state = jax.lax.fori_loop(
                    0, inner_steps, lambda _, state: step(variables, state), state
                )
                return state, Report.of(state, jnp.int32(inner_steps))
            # ``wanted`` is traced: how many rows make a refill depends on the run, not the program.
            before = state.done.sum()

            def go_on(carry: tuple[Array, Any]) -> Array:
                taken, state = carry
                finished = state.done.sum() - before
                return (taken < inner_steps) & (finished < wanted) & ~state.done.all()

            taken, state = jax.lax.while_loop(
                go_on,
                lambda carry: (carry[0] + 1, step(variables, carry[1])),
                (jnp.int32(0), state),
            )
            return state, Report.of(state, taken)

        # The states that these are given keep their buffers; otherwise memory would hold the old
        # state beside the new one. Rows that all end together leave no state to start in.
        self.places = attack.finishes_early and slots > 1
        self.start = Program(per_device(start, mesh, 2), donate=(3,) if self.places else ())
        self.advance = Program(per_device(advance, mesh, 2), donate=(2,))

        if isinstance(attack, SharedDirection):

            def direction(
                variables: Any, key: Array, ids: Array, x: Array, y: Array
            ) -> tuple[Array, Array]:
                logits_fn = victim.logits_fn(variables, row_keys(key, ids), jnp.ones_like(ids))
                return attack.direction(logits_fn, x, y)

            self.direction = Program(per_device(direction, mesh, 2))
            self.move = Program(per_device(attack.move, mesh, 0))

    def packed(self, slots: int) -> Program:
        """From a state, and for each of ``slots`` slots the slot that its row is in so far and
        whether it has one, to a state of so many."""

        def packed(state: Any, source: Int[Array, " slots"], real: Bool[Array, " slots"]) -> Any:
            state = jax.tree.map(lambda of: of[source], state)
            return dataclasses.replace(state, done=state.done | ~real)

        if slots not in self._packed:
            self._packed[slots] = Program(per_device(packed, self._mesh, 0))
        return self._packed[slots]


def collect_program(mesh: Mesh) -> Program:
    """From waiting rows, the leaves of a state and the place that every slot's row has among those
    that wait, to those that wait then. A place past the end takes nothing, so that the shapes are
    always the same. It is the same for all attacks."""

    def collect(waiting: Any, state: Any, place: Int[Array, " slots"]) -> Any:
        return _placed(waiting, state, place)

    return Program(per_device(collect, mesh, 0), donate=(0,))


def _placed(to: Any, rows: Any, place: Int[Array, " rows"]) -> Any:
    """``to`` with the ``rows`` at their places; those past the end are dropped."""
    return jax.tree.map(lambda all_of, some: all_of.at[place].set(some, mode="drop"), to, rows)

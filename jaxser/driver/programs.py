"""The programs of a run: what its devices compute for a victim, and for an attack on it.

    programs = AttackPrograms(VictimFunction(victim.apply, True, False), PGD(), mesh, 16, 1)
    state = programs.init(variables, key, rows)
    state, taken = programs.advance(variables, wanted, state)

The victim's variables, ε, labels, ids and the key are arguments: none of them is baked in, so none
of them compiles anew. Every device runs its program on its own slice of the batch (``shard_map``
over "data"); ``collect`` alone moves rows between devices.

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
from jaxtyping import Array, Float, Int, Integer, Key

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
from jaxser.runtime.sharding import batch_sharding

__all__ = [
    "CLEAN",
    "CLEAN_AGAIN",
    "SCORE",
    "AttackPrograms",
    "VictimFunction",
    "VictimPrograms",
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


class AttackPrograms:
    """What runs on the devices for one attack.

    ``init`` makes the state of ``fresh_rows`` rows and ``place`` puts them into slots of the
    running state, so that a refill costs what its rows cost and every row starts in the same
    program. ``advance`` takes steps; ``collect`` gathers finished rows.

    Args:
      victim: what is attacked.
      attack: with what.
      mesh: the devices.
      slots: rows of the state, over all devices.
      inner_steps: most steps per call of ``advance``; 1 where the host loops.
    """

    def __init__(
        self, victim: VictimFunction, attack: Attack, mesh: Mesh, slots: int, inner_steps: int
    ) -> None:
        slots_per_device = slots // mesh.size

        def with_variables(own: Any) -> Attack:
            return attack.with_variables(own) if isinstance(attack, NetworkAttack) else attack

        def init(variables: tuple[Any, Any], key: Array, rows: dict[str, Array]) -> Any:
            of_victim, own = variables
            keys = row_keys(key, rows["ids"])
            logits_fn = victim.logits_fn(of_victim, keys, jnp.zeros_like(rows["ids"]))
            state = with_variables(own).init(logits_fn, keys, rows["x"], rows["y"], rows["epsilon"])
            return dataclasses.replace(state, done=state.done | ~rows["real"])

        def blank(new: Any) -> Any:
            # Any valid rows will do: a slot that is done and holds no row is not read.
            state = jax.tree.map(lambda of: of[jnp.arange(slots_per_device) % of.shape[0]], new)
            return dataclasses.replace(state, done=jnp.ones_like(state.done))

        def place(state: Any, new: Any, slot: Int[Array, " fresh"]) -> Any:
            # A slot past the end is dropped, so the shapes are always the same.
            return jax.tree.map(lambda to, of: to.at[slot].set(of, mode="drop"), state, new)

        def step(variables: tuple[Any, Any], state: Any) -> Any:
            of_victim, own = variables
            logits_fn = victim.logits_fn(of_victim, state.keys, state.steps + 1)
            return with_variables(own).step(logits_fn, state)

        def advance(variables: tuple[Any, Any], wanted: Array, state: Any) -> tuple[Any, Array]:
            """Steps until ``wanted`` rows more are done; at most ``inner_steps``."""
            if inner_steps == 1:
                return step(variables, state), jnp.ones(1, jnp.int32)
            if not attack.finishes_early:
                # A loop of known length needs no look at its condition. A row that is done stays as
                # it is, so the steps past an attack's last change nothing.
                state = jax.lax.fori_loop(
                    0, inner_steps, lambda _, state: step(variables, state), state
                )
                return state, jnp.full(1, inner_steps, jnp.int32)
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
            return state, taken[None]

        def collect(pending: Any, state: Any, source: Array, destination: Array) -> Any:
            # Over all devices at once, unlike the others: rows that finished on one device are
            # scored wherever the batch has room. Indices are of the slots, so the shapes are
            # always the same; a destination past the end is dropped.
            return jax.tree.map(
                lambda to, of: to.at[destination].set(of[source], mode="drop"), pending, state
            )

        self.init = Program(per_device(init, mesh, 2))
        self.blank = Program(per_device(blank, mesh, 0))
        # What these three give back is what they were given, changed in places. Donated, it keeps
        # its buffers; otherwise memory would hold the old state beside the new one.
        self.place = Program(per_device(place, mesh, 0), donate=(0,))
        self.advance = Program(per_device(advance, mesh, 2), donate=(2,))
        # Left to itself the compiler may give every device all of the result.
        self.collect = Program(collect, donate=(0,), out_shardings=batch_sharding(mesh))

        if isinstance(attack, SharedDirection):

            def direction(
                variables: Any, key: Array, ids: Array, x: Array, y: Array
            ) -> tuple[Array, Array]:
                logits_fn = victim.logits_fn(variables, row_keys(key, ids), jnp.ones_like(ids))
                return attack.direction(logits_fn, x, y)

            self.direction = Program(per_device(direction, mesh, 2))
            self.move = Program(per_device(attack.move, mesh, 0))

"""The compiled programs of a run: one set per victim and one per attack, made once per shape.

    machine = make_machine(victim, (16, 32_000), attack=PGD(), mesh=mesh, loop="host")
    state = machine.attack.advance(machine.variables, state)
    scored = machine.victim.score(machine.variables, x, x_adv)

Programs are compiled ahead of time on their first call, so that compilation can be told from
running. The victim's variables, ε, labels, ids and the key are arguments: none of them is baked
in. Every device runs its program on its own slice of the batch (``shard_map`` over "data").
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from jaxser.attacks.base import Attack, LogitsFn, SharedDirection, row_keys
from jaxser.attacks.projections import per_row
from jaxser.errors import InputError, UsageError
from jaxser.losses import prediction
from jaxser.perturbation import perturbation_measures
from jaxser.sharding import batch_sharding, replicated
from jaxser.victim import Victim

__all__ = ["Loop", "Machine", "compile_seconds", "make_machine"]

Loop = Literal["host", "device"]

# Steps inside one device loop: few enough that finished rows do not idle long, many enough that
# the host's look at `done` costs nothing.
_INNER_STEPS_EARLY = 5
_INNER_STEPS_FIXED = 50


def compile_seconds() -> float:
    """Seconds that this process has spent on tracing and compiling the programs so far."""
    return _Program.total_seconds


class _Program:
    """A function that is compiled ahead of time on its first call, with the time noted."""

    total_seconds: ClassVar[float] = 0.0

    def __init__(
        self, function: Callable[..., Any], donate: tuple[int, ...] = (), **options: Any
    ) -> None:
        self._jitted = jax.jit(function, donate_argnums=donate, **options)
        self._compiled: Any = None

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            start = time.perf_counter()
            self._compiled = self._jitted.lower(*arguments).compile()
            _Program.total_seconds += time.perf_counter() - start
        return self._compiled(*arguments)


class _ByIdentity:
    """A function as a cache key, for callables that are not hashable themselves."""

    def __init__(self, function: Callable[..., Any], takes_variables: bool) -> None:
        self._function = function
        self._takes_variables = takes_variables

    def __call__(self, variables: Any, x: Float[Array, "batch ..."]) -> Array:
        return self._function(variables, x) if self._takes_variables else self._function(x)

    def __hash__(self) -> int:
        return id(self._function)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self._function is other._function


def _per_device(function: Callable[..., Any], mesh: Mesh, shared: int) -> Callable[..., Any]:
    """``function`` on every device's own rows; its first ``shared`` arguments are whole."""

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


class _VictimPrograms:
    """What runs on the devices whatever the attack."""

    def __init__(self, apply: _ByIdentity, mesh: Mesh, num_classes: int) -> None:
        self.num_classes = num_classes

        def score(variables: Any, x: Array, x_adv: Array) -> dict[str, Array]:
            predicted = prediction(apply(variables, x_adv).astype(jnp.float32))
            return {"prediction": predicted, **perturbation_measures(x, x_adv)}

        def collect(pending: Any, state: Any, source: Array, destination: Array) -> Any:
            # A destination past the end is dropped, so the shapes are always the same.
            return jax.tree.map(
                lambda to, of: to.at[destination].set(of[source], mode="drop"), pending, state
            )

        self.score = _Program(_per_device(score, mesh, 1))
        self.collect = _Program(collect, donate=(0,), out_shardings=batch_sharding(mesh))


class _AttackPrograms:
    """What runs on the devices for one attack."""

    def __init__(self, apply: _ByIdentity, attack: Attack, mesh: Mesh, inner_steps: int) -> None:
        def init(variables: Any, key: Array, rows: dict[str, Array]) -> Any:
            state = attack.init(
                functools.partial(apply, variables),
                row_keys(key, rows["ids"]),
                rows["x"],
                rows["y"],
                rows["epsilon"],
            )
            return dataclasses.replace(state, done=state.done | ~rows["fresh"])

        def merge(state: Any, new: Any, fresh: Array) -> Any:
            return jax.tree.map(
                lambda old, new: jnp.where(per_row(fresh, new), new, old), state, new
            )

        def advance(variables: Any, state: Any) -> Any:
            step = functools.partial(attack.step, functools.partial(apply, variables))
            if inner_steps == 1:
                return step(state)
            return jax.lax.fori_loop(0, inner_steps, lambda _, state: step(state), state)

        self.init = _Program(_per_device(init, mesh, 2))
        self.merge = _Program(_per_device(merge, mesh, 0), donate=(0,))
        self.advance = _Program(_per_device(advance, mesh, 1), donate=(1,))

        if isinstance(attack, SharedDirection):

            def direction(variables: Any, x: Array, y: Array) -> tuple[Array, Array]:
                return attack.direction(functools.partial(apply, variables), x, y)

            self.direction = _Program(_per_device(direction, mesh, 1))
            self.move = _Program(_per_device(attack.move, mesh, 0))


@functools.lru_cache(maxsize=16)
def _victim_programs(
    apply: _ByIdentity,
    mesh: Mesh,
    batch_shape: tuple[int, ...],
    variables_structure: Any,
    variables_shapes: tuple[tuple[tuple[int, ...], str], ...],
) -> _VictimPrograms:
    """One set of programs per victim function and shapes."""
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in variables_shapes]
    variables = jax.tree.unflatten(variables_structure, leaves)
    return _VictimPrograms(apply, mesh, _num_classes(apply, variables, batch_shape))


@functools.lru_cache(maxsize=64)
def _attack_programs(
    victim: _VictimPrograms,
    apply: _ByIdentity,
    attack: Hashable,
    mesh: Mesh,
    inner_steps: int,
) -> _AttackPrograms:
    """One set of programs per attack; those of ``victim`` stand for the shapes in the key."""
    del victim
    return _AttackPrograms(apply, cast(Attack, attack), mesh, inner_steps)


@dataclasses.dataclass(frozen=True)
class Machine:
    """With what and where a stream of rows runs.

    Attributes:
      victim: programs that do not depend on the attack.
      attack: programs of the attack (an ``_AttackPrograms``), or None where there is none.
      variables: of the victim, on every device.
      mesh: the devices.
      batch_size: rows of a batch over all devices.
      inner_steps: attack steps per call of ``attack.advance``.
    """

    victim: _VictimPrograms
    attack: Any
    variables: Any
    mesh: Mesh
    batch_size: int
    inner_steps: int

    def put(self, values: Any) -> Any:
        """Host arrays ``[batch, ...]`` on the devices, split along the batch."""
        return jax.device_put(values, batch_sharding(self.mesh))


def make_machine(
    victim: Victim | LogitsFn,
    batch_shape: tuple[int, ...],
    *,
    attack: Attack | None,
    mesh: Mesh,
    loop: Loop | None = None,
) -> Machine:
    """Programs for a victim and an attack, those of an earlier run where they fit.

    Args:
      victim: a victim, or a function from inputs to logits.
      batch_shape: of a batch over all devices; the batch is a multiple of the devices.
      attack: or None to predict only.
      mesh: the devices, with the axis "data".
      loop: who loops over steps: "host", or "device" inside one program. By default the host
        on CPU, where gradients of convolutions inside a loop are many times slower.

    Raises:
      InputError: inputs that the victim does not take, or a victim that returns no logits.
      UsageError: unknown loop.
    """
    if isinstance(victim, Victim):
        if batch_shape[1:] != tuple(victim.input_shape):
            raise InputError(
                f"{victim.name} takes inputs of shape {tuple(victim.input_shape)}, but those given "
                f"have {batch_shape[1:]}; prepare them with the victim's own audio settings."
            )
        apply, variables = _ByIdentity(victim.apply, takes_variables=True), victim.variables
    else:
        apply, variables = _ByIdentity(victim, takes_variables=False), ()
    if loop is None:
        loop = "host" if mesh.devices.flat[0].platform == "cpu" else "device"
    if loop not in ("host", "device"):
        raise UsageError(f"loop must be 'host' or 'device', not {loop!r}.")
    inner_steps = 1
    if attack is not None and loop == "device":
        most = _INNER_STEPS_EARLY if attack.finishes_early else _INNER_STEPS_FIXED
        calls = -(-attack.max_steps // most)
        inner_steps = -(-attack.max_steps // calls)
    leaves, structure = jax.tree.flatten(variables)
    shapes = tuple((np.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves)
    programs = _victim_programs(apply, mesh, batch_shape, structure, shapes)
    return Machine(
        victim=programs,
        attack=None
        if attack is None
        else _attack_programs(programs, apply, cast(Hashable, attack), mesh, inner_steps),
        variables=jax.device_put(variables, replicated(mesh)),
        mesh=mesh,
        batch_size=batch_shape[0],
        inner_steps=inner_steps,
    )


def _num_classes(apply: _ByIdentity, variables: Any, batch_shape: tuple[int, ...]) -> int:
    """Classes of the victim's logits, found without running it."""
    x = jax.ShapeDtypeStruct(batch_shape, jnp.float32)
    logits = jax.eval_shape(apply, variables, x)
    if len(logits.shape) != 2 or logits.shape[0] != batch_shape[0] or logits.shape[1] < 2:
        raise InputError(
            f"the victim must map {list(batch_shape)} to logits [{batch_shape[0]}, classes] with "
            f"at least two classes, but returns {list(logits.shape)}."
        )
    return int(logits.shape[1])

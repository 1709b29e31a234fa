"""The compiled programs of a run: one set per victim and one per attack, made once per shape.

    machine = make_machine(victim, (32_000,), attack=PGD(), mesh=mesh, slots=16, score_rows=16)
    state, taken = machine.attack.advance(machine.all_variables, wanted, state)
    scored = machine.victim.score(machine.variables, key, SCORE, ids, x, x_adv)

Programs are compiled ahead of time on their first call, so that compilation can be told from
running. The victim's variables, ε, labels, ids and the key are arguments: none of them is baked
in. Every device runs its program on its own slice of the batch (``shard_map`` over "data").

A randomised victim gets one key per row and forward pass, made from the row's own key, so that
its noise depends on the seed, the utterance and the step, and on nothing else.
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
from jaxtyping import Array, Float, Int, Key, UInt

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
from jaxser.results.perturbation import perturbation_measures
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.sharding import batch_sharding, replicated
from jaxser.victims.victim import Victim

__all__ = [
    "CLEAN",
    "CLEAN_AGAIN",
    "SCORE",
    "Loop",
    "Machine",
    "compile_count",
    "compile_seconds",
    "make_machine",
]

Loop = Literal["host", "device"]

# Which noise of a randomised victim a pass sees; attack steps have their own numbers, from 0 up.
SCORE = np.uint32(2**32 - 1)
CLEAN = np.uint32(2**32 - 2)
CLEAN_AGAIN = np.uint32(2**32 - 3)

# What the row's key is folded with for the victim, so that its noise is not the attack's: attacks
# fold in their steps, which stay far below.
_VICTIM_SALT = np.uint32(2**32 - 1)

# Steps inside one device loop: many enough that the host's look at `done` costs nothing, few
# enough that progress is seen and Ctrl-C heard.
_INNER_STEPS = 50

# Where rows finish one by one, a refill waits for this share of a device's slots: fewer refills.
_REFILL_SHARE = 1 / 8


def compile_seconds() -> float:
    """Seconds that this process has spent on tracing and compiling the programs so far."""
    return _Program.total_seconds


def compile_count() -> int:
    """Programs that this process has compiled so far."""
    return _Program.total_count


class _Program:
    """A function that is compiled ahead of time on its first call, with the time noted."""

    total_seconds: ClassVar[float] = 0.0
    total_count: ClassVar[int] = 0

    def __init__(
        self, function: Callable[..., Any], donate: tuple[int, ...] = (), **options: Any
    ) -> None:
        self._jitted = jax.jit(function, donate_argnums=donate, **options)
        self._compiled: Any = None

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            self._compiled = self._compile(*arguments)
        return self._compiled(*arguments)

    def bytes_needed(self, *shapes: Any) -> int:
        """Device memory of a call with arguments of such shapes: theirs, the results', the rest."""
        analysis = self._compile(*shapes).memory_analysis()
        return int(
            analysis.argument_size_in_bytes
            + analysis.output_size_in_bytes
            + analysis.temp_size_in_bytes
        )

    def result_shapes(self, *shapes: Any) -> Any:
        """Shapes of the results, found without compiling."""
        return jax.eval_shape(self._jitted, *shapes)

    def _compile(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        compiled = self._jitted.lower(*arguments).compile()
        _Program.total_seconds += time.perf_counter() - start
        _Program.total_count += 1
        return compiled


class _Victim:
    """A victim's function in one calling convention, and a cache key: functions by identity."""

    def __init__(
        self, function: Callable[..., Any], takes_variables: bool, randomised: bool
    ) -> None:
        self._function = function
        self._takes_variables = takes_variables
        self.randomised = randomised

    def __call__(self, variables: Any, x: Float[Array, "batch ..."], *keys: Array) -> Array:
        arguments = (variables, x) if self._takes_variables else (x,)
        return self._function(*arguments, *keys)

    def logits_fn(
        self, variables: Any, keys: Key[Array, "batch"], draw: UInt[Array, "batch"]
    ) -> LogitsFn:
        """Logits under the noise of ``draw``, where there is noise."""
        if not self.randomised:
            if self._takes_variables and isinstance(self._function, LocalFunction):
                return LocalLogits(self._function, variables)
            return functools.partial(self, variables)
        own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, _VICTIM_SALT)
        return RandomLogits(apply=self, variables=variables, keys=step_keys(own, draw))

    def __hash__(self) -> int:
        return id(self._function)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Victim)
            and self._function is other._function
            and self._takes_variables == other._takes_variables
            and self.randomised == other.randomised
        )


def _per_device(function: Callable[..., Any], mesh: Mesh, shared: int) -> Callable[..., Any]:
    """``function`` on every device's own rows; its first ``shared`` arguments are whole."""

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


class _VictimPrograms:
    """What runs on the devices whatever the attack."""

    def __init__(self, victim: _Victim, mesh: Mesh, num_classes: int) -> None:
        self.num_classes = num_classes

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
        self.score = _Program(_per_device(score, mesh, 3))


class _AttackPrograms:
    """What runs on the devices for one attack.

    ``init`` makes the state of ``fresh_rows`` rows and ``place`` puts them into slots of the
    running state, so that a refill costs what its rows cost and every row starts in the same
    program. ``advance`` takes steps; ``collect`` gathers finished rows.
    """

    def __init__(
        self, victim: _Victim, attack: Attack, mesh: Mesh, slots: int, inner_steps: int
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

        def place(state: Any, new: Any, slot: Int[Array, "fresh"]) -> Any:
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
                # A loop of known length needs no look at its condition.
                state = jax.lax.fori_loop(
                    0, inner_steps, lambda _, state: step(variables, state), state
                )
                return state, jnp.full(1, inner_steps, jnp.int32)
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
            return jax.tree.map(
                lambda to, of: to.at[destination].set(of[source], mode="drop"), pending, state
            )

        self.init = _Program(_per_device(init, mesh, 2))
        self.blank = _Program(_per_device(blank, mesh, 0))
        self.place = _Program(_per_device(place, mesh, 0), donate=(0,))
        self.advance = _Program(_per_device(advance, mesh, 2), donate=(2,))
        self.collect = _Program(collect, donate=(0,), out_shardings=batch_sharding(mesh))

        if isinstance(attack, SharedDirection):

            def direction(
                variables: Any, key: Array, ids: Array, x: Array, y: Array
            ) -> tuple[Array, Array]:
                logits_fn = victim.logits_fn(variables, row_keys(key, ids), jnp.ones_like(ids))
                return attack.direction(logits_fn, x, y)

            self.direction = _Program(_per_device(direction, mesh, 2))
            self.move = _Program(_per_device(attack.move, mesh, 0))


@functools.lru_cache(maxsize=32)
def _victim_programs(
    victim: _Victim,
    mesh: Mesh,
    shape: tuple[int, ...],
    variables_structure: Any,
    variables_shapes: tuple[tuple[tuple[int, ...], str], ...],
) -> _VictimPrograms:
    """One set of programs per victim function and shapes."""
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in variables_shapes]
    variables = jax.tree.unflatten(variables_structure, leaves)
    return _VictimPrograms(victim, mesh, _num_classes(victim, variables, shape))


@functools.lru_cache(maxsize=64)
def _attack_programs(
    programs: _VictimPrograms,
    victim: _Victim,
    attack: Hashable,
    mesh: Mesh,
    slots: int,
    inner_steps: int,
) -> _AttackPrograms:
    """One set of programs per attack; ``programs`` stand for all other shapes in the key."""
    del programs
    return _AttackPrograms(victim, cast(Attack, attack), mesh, slots, inner_steps)


@dataclasses.dataclass(frozen=True)
class Machine:
    """With what and where a stream of rows runs.

    Attributes:
      victim: programs that do not depend on the attack.
      attack: programs of the attack (an ``_AttackPrograms``), or None where there is none.
      variables: of the victim, on every device.
      attack_variables: of an attack that is a network, likewise; () of others.
      mesh: the devices.
      slots: rows that are attacked at a time, over all devices.
      fresh_rows: rows that are started at a time, over all devices.
      score_rows: rows of a batch that is only looked at, over all devices.
      inner_steps: most attack steps per call of ``attack.advance``.
    """

    victim: _VictimPrograms
    attack: Any
    variables: Any
    attack_variables: Any
    mesh: Mesh
    slots: int
    fresh_rows: int
    score_rows: int
    inner_steps: int

    @property
    def num_devices(self) -> int:
        return int(self.mesh.size)

    @property
    def all_variables(self) -> tuple[Any, Any]:
        """What ``attack.init`` and ``attack.advance`` are given."""
        return self.variables, self.attack_variables

    def put(self, values: Any) -> Any:
        """Host arrays ``[batch, ...]`` on the devices, split along the batch."""
        return jax.device_put(values, batch_sharding(self.mesh))


def make_machine(
    victim: Victim | LogitsFn,
    input_shape: tuple[int, ...],
    *,
    attack: Attack | None,
    mesh: Mesh,
    slots: int,
    score_rows: int,
    loop: Loop | None = None,
) -> Machine:
    """Programs for a victim and an attack, those of an earlier run where they fit.

    Args:
      victim: a victim, or a function from inputs to logits.
      input_shape: of one input.
      attack: or None to predict only.
      mesh: the devices, with the axis "data".
      slots: rows that are attacked at a time; a multiple of the devices.
      score_rows: rows of a batch that is only looked at; a multiple of the devices.
      loop: who loops over steps: "host", or "device" inside one program. By default the host
        on CPU, where gradients of convolutions inside a loop are many times slower.

    Raises:
      InputError: inputs that the victim does not take, or a victim that returns no logits.
      UsageError: unknown loop.
    """
    if isinstance(victim, Victim):
        if input_shape != tuple(victim.input_shape):
            raise InputError(
                f"{victim.name} takes inputs of shape {tuple(victim.input_shape)}, but those given "
                f"have {input_shape}; prepare them with the victim's own audio settings."
            )
        function = _Victim(victim.apply, takes_variables=True, randomised=victim.randomised)
        variables = victim.variables
    else:
        function = _Victim(victim, takes_variables=False, randomised=False)
        variables = ()
    if loop is None:
        loop = "host" if mesh.devices.flat[0].platform == "cpu" else "device"
    if loop not in ("host", "device"):
        raise UsageError(f"loop must be 'host' or 'device', not {loop!r}.")
    inner_steps, fresh_rows = 1, slots
    if attack is not None and loop == "device":
        calls = -(-attack.max_steps // _INNER_STEPS)
        inner_steps = -(-attack.max_steps // calls)
    if attack is not None and attack.finishes_early:
        fresh_rows = mesh.size * max(1, int(_REFILL_SHARE * slots / mesh.size))
    own = attack.variables if isinstance(attack, NetworkAttack) else ()
    leaves, structure = jax.tree.flatten(variables)
    shapes = tuple((np.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves)
    programs = _victim_programs(function, mesh, (score_rows, *input_shape), structure, shapes)
    return Machine(
        victim=programs,
        attack=None
        if attack is None
        else _attack_programs(programs, function, cast(Hashable, attack), mesh, slots, inner_steps),
        variables=jax.device_put(variables, replicated(mesh)),
        attack_variables=jax.device_put(own, replicated(mesh)),
        mesh=mesh,
        slots=slots,
        fresh_rows=fresh_rows,
        score_rows=score_rows,
        inner_steps=inner_steps,
    )


def _num_classes(victim: _Victim, variables: Any, shape: tuple[int, ...]) -> int:
    """Classes of the victim's logits, found without running it."""

    def logits(variables: Any, x: Array) -> Array:
        keys = jax.random.split(jax.random.key(0), shape[0])
        return victim.logits_fn(variables, keys, jnp.zeros(shape[0], jnp.uint32))(x)

    found = jax.eval_shape(logits, variables, jax.ShapeDtypeStruct(shape, jnp.float32))
    if len(found.shape) != 2 or found.shape[0] != shape[0] or found.shape[1] < 2:
        raise InputError(
            f"the victim must map {list(shape)} to logits [{shape[0]}, classes] with "
            f"at least two classes, but returns {list(found.shape)}."
        )
    return int(found.shape[1])

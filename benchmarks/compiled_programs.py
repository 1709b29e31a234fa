"""The driver's and the training's programs of a victim, lowered for a mesh of any devices.

    for part in lowered_programs(Spec.read("emo18:pgd:steps=20@32"), mesh): ...

Weights and speech are shapes alone.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import yaml

from jaxser import models
from jaxser.attacks import Attack, from_parameters
from jaxser.driver.machine import Machine
from jaxser.driver.program_shapes import ProgramShapes
from jaxser.driver.programs import (
    AttackPrograms,
    VictimFunction,
    VictimPrograms,
    collect_program,
)
from jaxser.runtime.errors import UsageError
from jaxser.runtime.sharding import batch_sharding, replicated
from jaxser.victims.victim import evaluation_logits

__all__ = [
    "CLASSES",
    "SAMPLE_RATE",
    "Lowered",
    "Spec",
    "attack_parts",
    "input_shape_of",
    "lowered_programs",
    "placed_shapes",
    "shape_machine",
    "victim_shapes",
]

CLASSES = 7

SAMPLE_RATE = 16_000

# Of speech in an input, where nothing else is said.
_SECONDS = 6.0

# Frames of six seconds in the systematic evaluation; its network reads no fewer than a slice.
_FRAMES, _SLICE, _BANDS = 261, 29, 128
_IMAGE = (224, 224, 3)

# Steps of a call, of an attack that takes more: a program is not longer for them.
_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Spec:
    """What to compile: ``victim[+option=value]:attack[:parameter=value,...][@rows]``.

    Attributes:
      text: as it was given.
      victim: a name of :func:`jaxser.models.names`.
      options: of its module; computed in bfloat16 where they do not say otherwise.
      attack: a name, or "training" for a step of training.
      parameters: of the attack.
      rows: of each device.
    """

    text: str
    victim: str
    options: dict[str, Any]
    attack: str
    parameters: dict[str, str]
    rows: int

    @classmethod
    def read(cls, text: str) -> "Spec":
        """Parse a spec.

        Raises:
          UsageError: it has another form.
        """
        body, _, rows = text.partition("@")
        victim, *rest = body.split(":")
        name, *options = victim.split("+")
        try:
            attack, parameters = rest[0], rest[1].split(",") if len(rest) > 1 else []
            given = dict(each.split("=") for each in (*options, *parameters))
            number = int(rows or 32)
        except (IndexError, ValueError):
            raise UsageError(
                f"{text!r} is no program; write VICTIM[+OPTION=VALUE]:ATTACK[:NAME=VALUE,...]"
                "[@ROWS], such as emo18:pgd:steps=20@32, or training in place of the attack."
            ) from None
        of_victim = {each.split("=")[0] for each in options}
        return cls(
            text=text,
            victim=name,
            options={"dtype": "bfloat16"}
            | {key: yaml.safe_load(value) for key, value in given.items() if key in of_victim},
            attack=attack,
            parameters={k: v for k, v in given.items() if k not in of_victim},
            rows=number,
        )

    def module(self) -> Any:
        """The victim's network."""
        return models.build(self.victim, CLASSES, **self.options)

    def input_shape(self) -> tuple[int, ...]:
        """Of one input."""
        return input_shape_of(self.victim, _SECONDS)[0]


def input_shape_of(name: str, seconds: float) -> tuple[tuple[int, ...], float]:
    """(shape of an input of a model, seconds of speech in it); an image is of one second."""
    kind = models.input_of(name)
    if kind == "waveform":
        return (round(seconds * SAMPLE_RATE),), seconds
    if kind == "spectrogram":
        return (max(_SLICE, round(_FRAMES * seconds / 6)), _BANDS), seconds
    return _IMAGE, 1.0


class Lowered(NamedTuple):
    """A program of a spec.

    Attributes:
      name: of the part.
      program: what ``jax.jit(...).lower(...)`` gives.
      steps: that it loops over; 1: it has no such loop.
    """

    name: str
    program: Any
    steps: int


def lowered_programs(spec: Spec, mesh: Any) -> Iterator[Lowered]:
    """The programs of a spec: a step of training, or that which takes the steps of each attack."""
    if spec.attack == "training":
        yield Lowered("step", _training_step(spec, mesh), 1)
        return
    attack = from_parameters(spec.attack, spec.parameters)
    for part in attack_parts(attack):
        prefix = "" if part is attack else f"{part.name} "
        yield Lowered(f"{prefix}advance", *_attack_program(spec, part, mesh))


def attack_parts(attack: Any) -> tuple[Attack, ...]:
    """The members of an ensemble, or the attack alone."""
    return attack.attacks(CLASSES) if hasattr(attack, "attacks") else (attack,)


def victim_shapes(module: Any, input_shape: tuple[int, ...]) -> Any:
    """Shapes of a module's variables."""
    init = functools.partial(module.init, train=False)
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), x)


def placed_shapes(shapes: Any, sharding: Any) -> Any:
    """Shapes of what lies on devices."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
    )


def _attack_program(spec: Spec, attack: Attack, mesh: Any) -> tuple[Any, int]:
    module, shape = spec.module(), spec.input_shape()
    variables = victim_shapes(module, shape)
    machine = shape_machine(evaluation_logits(module), variables, attack, mesh, spec.rows)
    lowered = machine.attack.advance.lowered(*ProgramShapes(machine, shape).advance)
    return lowered, machine.inner_steps


def shape_machine(
    logits: Callable[..., Any], variables: Any, attack: Attack | None, mesh: Any, rows: int
) -> Machine:
    """The driver's machine for devices that may not be there: its variables are shapes.

    Args:
      logits: ``(variables, x) -> logits``.
      variables: shapes of the victim's.
      attack: or None to predict only.
      mesh: the devices.
      rows: of each device.
    """
    slots = rows * mesh.size
    victim = VictimFunction(logits, takes_variables=True, randomised=False)
    steps = min(attack.max_steps, _STEPS) if attack is not None else 1
    return Machine(
        victim=VictimPrograms(victim, mesh, CLASSES),
        attack=None if attack is None else AttackPrograms(victim, attack, mesh, slots, steps),
        collect=collect_program(mesh),
        variables=placed_shapes(variables, replicated(mesh)),
        attack_variables=(),
        mesh=mesh,
        slots=slots,
        fresh_rows=slots,
        score_rows=slots,
        inner_steps=steps,
    )


def _training_step(spec: Spec, mesh: Any) -> Any:
    from jaxser.config.training import TrainingConfig
    from jaxser.training.optimizer import make_optimizer
    from jaxser.training.victim import init_state, make_train_step

    module, shape = spec.module(), spec.input_shape()
    optimizer = make_optimizer(TrainingConfig(), steps_per_epoch=100)
    start = functools.partial(init_state, module, optimizer, jax.random.key(0), shape, CLASSES)
    state = placed_shapes(jax.eval_shape(start), replicated(mesh))
    along, rows = batch_sharding(mesh), spec.rows * mesh.size
    batch = {
        "x": jax.ShapeDtypeStruct((rows, *shape), jnp.float32, sharding=along),
        "y": jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=along),
    }
    step = make_train_step(module, optimizer, jax.random.key(1))
    return jax.jit(step, donate_argnums=0).lower(state, batch)

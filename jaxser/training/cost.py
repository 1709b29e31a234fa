"""What a training takes: seconds over all its starts, and passes of its network.

watch = Stopwatch(record)                    # of the last checkpoint
state = watch.first(update, state, batch)
watch.note(record)                           # before the next checkpoint
queries, gradients = passes_per_step(defence, batch_size=16)
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxser.attacks import Attack
from jaxser.attacks.base import row_keys
from jaxser.config import TrainConfig
from jaxser.results.training_facts import TrainingFacts
from jaxser.runtime.compilation import seconds_in_compiler
from jaxser.runtime.provenance import device_name
from jaxser.training.adversarial import Defence, attacked_rows
from jaxser.victims.training_record import defence_text

__all__ = ["TIMES", "Stopwatch", "passes_per_step", "training_cost"]

# Keys of a checkpoint's record; None where an earlier start of the run did not count.
TIMES = ("seconds", "compile_seconds")

Result = TypeVar("Result")


class Stopwatch:
    """Seconds of a run, added to those of its starts before.

    What a killed process did after its last checkpoint is done again, and counted once.

    Args:
      record: of the last checkpoint, or of a fresh run.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._before = {name: record[name] for name in TIMES}
        self._began, self._compiled = time.monotonic(), seconds_in_compiler()
        self._compiling = 0.0

    def first(self, update: Callable[..., Result], *arguments: Any) -> Result:
        """The first update of a start, whose call ends when its programs are compiled."""
        began, compiled = time.monotonic(), seconds_in_compiler()
        result = update(*arguments)
        self._compiling = time.monotonic() - began
        # Of which not all is JAX's, such as waiting for another process that compiles.
        self._compiled += seconds_in_compiler() - compiled
        return result

    def note(self, record: dict[str, Any]) -> None:
        """Write the seconds so far into the record of the next checkpoint."""
        # The looks at the end of the first epoch have programs of their own.
        compiling = self._compiling + seconds_in_compiler() - self._compiled
        own = {
            "seconds": time.monotonic() - self._began - compiling,
            "compile_seconds": compiling,
        }
        for name, before in self._before.items():
            record[name] = None if before is None else before + own[name]


def passes_per_step(defence: Defence | None, batch_size: int) -> tuple[int, int]:
    """Forward and backward passes of an utterance in one step; a gradient is one of each.

    The watch, validation and other looks between the steps are not among them.

    Args:
      defence: what is trained against; None for usual training.
      batch_size: rows of a step.
    """
    if defence is None:
        return batch_size, batch_size
    if defence.replays > 1:
        # Each update's own backward pass moves the attack.
        return defence.replays * batch_size, defence.replays * batch_size
    rows = attacked_rows(batch_size, defence.share)
    queries, gradients = (rows * each for each in _passes_of(defence.attack))
    # TRADES first looks at what the clean rows are taken for.
    queries += rows * (defence.loss == "trades")
    update = batch_size * (1 if defence.loss == "adversarial" else 2)
    update *= 2 if defence.awp > 0 else 1
    return queries + update, gradients + update


def _passes_of(attack: Attack) -> tuple[int, int]:
    """Of all steps of an attack, by its own count, on a row that it cannot take."""

    def logits(x: jax.Array) -> jax.Array:
        score = 1e-3 * x.sum(axis=1)
        return jnp.stack([score + 1.0, -score], axis=1)

    x, label = jnp.zeros((1, 4), jnp.float32), jnp.zeros(1, jnp.int32)
    keys = row_keys(jax.random.key(0), jnp.zeros(1, jnp.uint32))
    state = attack.init(logits, keys, x, label, jnp.full(1, 1e-3, jnp.float32))
    step = jax.jit(lambda state: attack.step(logits, state))
    for _ in range(attack.max_steps):
        state = step(state)
    return int(state.queries[0]), int(state.gradients[0])


def training_cost(
    config: TrainConfig, defence: Defence | None, record: Mapping[str, Any]
) -> TrainingFacts:
    """What a finished run has taken.

    Args:
      config: of the run.
      defence: what it trained against.
      record: of its last checkpoint.
    """
    steps = record["history"][-1]["step"]
    queries, gradients = passes_per_step(defence, config.training.batch_size)
    seconds, compiling = (math.nan if record[name] is None else record[name] for name in TIMES)
    return TrainingFacts(
        defence=defence_text(config),
        seconds=seconds,
        compile_seconds=compiling,
        # Who has not counted the seconds may have trained on another one.
        device=None if math.isnan(seconds) else device_name(),
        queries=steps * queries,
        gradients=steps * gradients,
    )

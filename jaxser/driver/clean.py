"""What the victim makes of the clean inputs, and what is odd about its outputs.

clean = look(victim, source, seed=0, mesh=mesh, size=16)
clean.prediction, clean.flags & RANDOMISED
"""

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Key, UInt

from jaxser.attacks.base import BATCH_DEPENDENT, PROBABILITIES, RANDOMISED, LogitsFn
from jaxser.driver.machine import Machine, make_machine
from jaxser.driver.memory import in_fitting_batches
from jaxser.driver.programs import CLEAN, CLEAN_AGAIN
from jaxser.driver.source import Source
from jaxser.driver.work import CleanPass
from jaxser.runtime.numerics import seed_key
from jaxser.runtime.sharding import replicated
from jaxser.victims.victim import Victim

__all__ = ["look", "run_key"]

# How far two passes of the same input may be apart, as a share of the row's largest logit, before
# the victim is called randomised: a GPU may add in another order.
_SAME_LOGITS = 1e-5

# How far an input's logits may move with the others in its batch, as a share of the largest: where
# a row lies in a batch decides the order of sums, which half precision shows.
_SAME_AMONG_OTHERS = 1e-3

# Inputs that are looked at alone.
_ALONE = 2

# How far outputs may sum from 1 and still look like probabilities.
_SAME_SUM = 1e-4


def run_key(seed: int, mesh: Mesh) -> Key[Array, ""]:
    """The key that all randomness of a run comes from, on every device.

    Raises:
      UsageError: see :func:`jaxser.runtime.numerics.seed_key`.
    """
    return jax.device_put(seed_key(seed), replicated(mesh))


def look(
    victim: Victim | LogitsFn,
    source: Source,
    seed: int,
    mesh: Mesh,
    size: int,
    *,
    oddities: bool = True,
) -> CleanPass:
    """The clean pass, in smaller batches than ``size`` where memory runs out.

    Args:
      victim: what is attacked.
      source: the inputs.
      seed: of a randomised victim's noise.
      mesh: the devices.
      size: rows of a batch.
      oddities: look for what takes more passes than one.
    """
    key = run_key(seed, mesh)

    def look_in_batches(rows: int) -> CleanPass:
        machine = make_machine(
            victim, source.input_shape, attack=None, mesh=mesh, slots=rows, score_rows=rows
        )
        return _looked_at(machine, source, key, oddities)

    return in_fitting_batches(look_in_batches, size, mesh)


def _looked_at(machine: Machine, source: Source, key: Key[Array, ""], oddities: bool) -> CleanPass:
    """The clean pass in batches of one size."""
    size, ids = machine.score_rows, source.ids
    predictions, flags, told, odd = [], [], [], 0
    for start in range(0, len(source), size):
        rows = np.resize(np.arange(start, min(start + size, len(source))), size)
        x = source.batch(rows)
        scored = _scored(machine, key, CLEAN, ids[rows], x)
        logits = np.asarray(scored["logits"])
        if oddities and start == 0:
            again = np.asarray(_scored(machine, key, CLEAN_AGAIN, ids[rows], x)["logits"])
            odd = RANDOMISED * _differ(logits, again, _SAME_LOGITS)
            # Noise that is the victim's own secret cannot be told from its batch mates'.
            if machine.victim.randomised or not odd:
                odd |= BATCH_DEPENDENT * _depend_on_others(machine, key, ids[rows], x, logits)
        predictions.append(np.asarray(scored["prediction"]))
        told.append(logits)
        flags.append((odd | PROBABILITIES * _like_probabilities(logits)).astype(np.uint32))
    count = len(source)
    return CleanPass(*(np.concatenate(each)[:count] for each in (predictions, flags, told)))


def _scored(
    machine: Machine,
    key: Key[Array, ""],
    draw: np.uint32,
    ids: UInt[np.ndarray, " batch"],
    x: Float[np.ndarray, "batch ..."],
) -> dict[str, Array]:
    """What one pass tells of a batch."""
    ids, x = machine.put((ids, x))
    scored: dict[str, Array] = machine.victim.score(machine.variables, key, draw, ids, x, x)
    return scored


def _depend_on_others(
    machine: Machine,
    key: Key[Array, ""],
    ids: UInt[np.ndarray, " batch"],
    x: Float[np.ndarray, "batch ..."],
    logits: Float[np.ndarray, "batch classes"],
) -> bool:
    """Whether a row's logits depend on the others in its batch, or on its place.

    A few rows are looked at in a batch of nothing but copies of them: alone, in the program that
    is there already.
    """
    if len(x) == machine.num_devices:
        return False  # every row is alone on its device
    different = np.flatnonzero((x != x[:1]).reshape(len(x), -1).any(axis=1))
    if not len(different):
        # One input fills the batch. Its mirror image, half as large, is another of the same kind.
        x = x.copy()
        x[1::2] = 0.5 * np.flip(x[1::2])
        logits = np.asarray(_scored(machine, key, CLEAN, ids, x)["logits"])
        different = np.array([1])
    for row in (0, *different[: _ALONE - 1]):
        copies, same = np.repeat(x[row : row + 1], len(x), axis=0), np.full(len(x), ids[row])
        alone = np.asarray(_scored(machine, key, CLEAN, same, copies)["logits"])
        expected = np.broadcast_to(logits[row], alone.shape)
        if _differ(expected, alone, _SAME_AMONG_OTHERS):
            return True
    return False


def _differ(
    logits: Float[np.ndarray, "batch classes"],
    again: Float[np.ndarray, "batch classes"],
    tolerance: float,
) -> bool:
    """Whether two passes over the same inputs tell different things."""
    largest = np.abs(np.nan_to_num(logits)).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # of infinite logits
        same = np.abs(again - logits) <= tolerance * largest
    return not bool((same | ~(np.isfinite(again) | np.isfinite(logits))).all())


def _like_probabilities(logits: Float[np.ndarray, "batch classes"]) -> Bool[np.ndarray, " batch"]:
    inside = ((logits >= 0) & (logits <= 1)).all(axis=1)
    return inside & (np.abs(logits.sum(axis=1) - 1) <= _SAME_SUM)

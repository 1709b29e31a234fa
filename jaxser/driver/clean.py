"""What the victim makes of the clean inputs, and what is odd about its outputs.

clean = look(victim, source, seed=0, mesh=mesh, size=16)
clean.prediction, clean.flags & RANDOMISED
"""

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Key

from jaxser.attacks.base import PROBABILITIES, RANDOMISED, LogitsFn
from jaxser.driver.machine import Machine, make_machine
from jaxser.driver.memory import is_out_of_memory, smaller_batch
from jaxser.driver.programs import CLEAN, CLEAN_AGAIN
from jaxser.driver.work import CleanPass, Source
from jaxser.runtime.numerics import seed_key
from jaxser.runtime.sharding import replicated
from jaxser.victims.victim import Victim

__all__ = ["look", "run_key"]

# How far two passes of the same input may be apart, as a share of the row's largest logit, before
# the victim is called randomised: a GPU may add in another order.
_SAME_LOGITS = 1e-5

# How far outputs may sum from 1 and still look like probabilities.
_SAME_SUM = 1e-4


def run_key(seed: int, mesh: Mesh) -> Key[Array, ""]:
    """The key that all randomness of a run comes from, on every device.

    Raises:
      UsageError: see :func:`jaxser.runtime.numerics.seed_key`.
    """
    return jax.device_put(seed_key(seed), replicated(mesh))


def look(victim: Victim | LogitsFn, source: Source, seed: int, mesh: Mesh, size: int) -> CleanPass:
    """The clean pass, in smaller batches than ``size`` where memory runs out."""
    key = run_key(seed, mesh)
    while True:
        error = None
        try:
            machine = make_machine(
                victim, source.input_shape, attack=None, mesh=mesh, slots=size, score_rows=size
            )
            return _looked_at(machine, source, key)
        except Exception as raised:
            if not is_out_of_memory(raised):
                raise
            error = str(raised)
        # Only here has the error let go of the arrays that filled the memory.
        size = smaller_batch(size, mesh, error)


def _looked_at(machine: Machine, source: Source, key: Key[Array, ""]) -> CleanPass:
    """The clean pass in batches of one size."""
    size, ids = machine.score_rows, source.ids
    predictions, flags, odd = [], [], 0
    for start in range(0, len(source), size):
        rows = np.resize(np.arange(start, min(start + size, len(source))), size)
        x, own_ids = machine.put((source.batch(rows), ids[rows]))
        scored = machine.victim.score(machine.variables, key, CLEAN, own_ids, x, x)
        logits = np.asarray(scored["logits"])
        if start == 0:
            again = machine.victim.score(machine.variables, key, CLEAN_AGAIN, own_ids, x, x)
            odd = RANDOMISED * _differ(logits, np.asarray(again["logits"]))
        predictions.append(np.asarray(scored["prediction"]))
        flags.append((odd | PROBABILITIES * _like_probabilities(logits)).astype(np.uint32))
    count = len(source)
    return CleanPass(np.concatenate(predictions)[:count], np.concatenate(flags)[:count])


def _differ(
    logits: Float[np.ndarray, "batch classes"], again: Float[np.ndarray, "batch classes"]
) -> bool:
    """Whether two passes over the same inputs tell different things."""
    largest = np.abs(np.nan_to_num(logits)).max(axis=1, keepdims=True)
    same = np.abs(again - logits) <= _SAME_LOGITS * largest
    return not bool((same | ~(np.isfinite(again) | np.isfinite(logits))).all())


def _like_probabilities(logits: Float[np.ndarray, "batch classes"]) -> Bool[np.ndarray, " batch"]:
    inside = ((logits >= 0) & (logits <= 1)).all(axis=1)
    return inside & (np.abs(logits.sum(axis=1) - 1) <= _SAME_SUM)

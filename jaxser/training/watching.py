"""What a victim that is trained against an attack withstands, after every epoch.

    watch = RobustWatch(model, defence, 0.002, {"": train, "val_": validation}, rows=128, mesh=mesh)
    watch.figures(variables)        # {"watched_accuracy": ..., "robust_accuracy": ..., ...}
    collapsed(history)              # whether the last epoch overfitted catastrophically

A fixed small part of the training and of the validation rows is attacked by PGD with ten steps, the
training rows also by a weaker attack that is trained against: a victim that withstands that one and
not PGD has learnt to bend its gradient (Wong et al., ICLR 2020, section 5.4), and its robust
accuracy under the training attack means nothing.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Int

from jaxser.attacks import PGD, Attack
from jaxser.attacks.base import row_keys
from jaxser.attacks.losses import prediction
from jaxser.corpora.selection import spread_rows
from jaxser.results.metrics import confusion_matrix, uar
from jaxser.runtime.forms import on_cpu
from jaxser.runtime.numerics import seed_key
from jaxser.runtime.sharding import put_batch
from jaxser.training.adversarial import Defence
from jaxser.training.input_pipeline import WaveformSource, evaluation_batches
from jaxser.victims.victim import evaluation_logits

__all__ = ["RobustWatch", "best_before", "best_robust_so_far", "collapsed"]

_STEPS = 10
_BATCH_ROWS = 32

# An epoch with half of the robust accuracy of the best one before, while the training attack is
# withstood so much more often.
_COLLAPSE, _APART = 0.5, 0.2


class RobustWatch:
    """Clean and robust accuracy on fixed rows, through programs that compile once.

    Args:
      model: the victim's module.
      defence: what it is trained against.
      epsilon: at which it is attacked.
      parts: prefix of the figures -> rows of a part, of which ``rows`` are taken, spread over it;
        the one without a prefix is the training part. Empty parts have no figures.
      rows: of each part.
      num_classes: of the victim.
      mesh: devices that share a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        defence: Defence,
        epsilon: float,
        parts: Mapping[str, WaveformSource],
        *,
        rows: int,
        num_classes: int,
        mesh: Mesh,
    ) -> None:
        self._parts = {
            prefix: dataclasses.replace(part, rows=part.rows[spread_rows(len(part), rows)])
            for prefix, part in parts.items()
            if len(part)
        }
        self._num_classes, self._mesh = num_classes, mesh
        logits_of = evaluation_logits(model)
        trained = defence.attack
        pgd = PGD(steps=_STEPS, norm=trained.epsilon_norm, bounds=trained.bounds)
        programs = functools.partial(_Programs, logits_of, defence, epsilon)
        self._pgd = programs(pgd)
        self._trained = programs(trained) if trained.max_steps < _STEPS else None
        self._predict = jax.jit(lambda variables, x: prediction(logits_of(variables, x)))

    def figures(self, variables: Any) -> dict[str, float]:
        """Figures of an epoch, shares in [0, 1]."""
        found: dict[str, float] = {}
        for prefix, part in self._parts.items():
            truth = part.labels[part.rows]
            clean, robust, attacked = self._predictions(part, variables, with_trained=not prefix)
            found[f"{prefix}watched_accuracy"] = float((clean == truth).mean())
            if attacked is not None:
                found["attack_accuracy"] = float((attacked == truth).mean())
            found[f"{prefix}robust_accuracy"] = float((robust == truth).mean())
            if prefix:
                # Without a prediction a row is as wrong as with another class.
                wrong = np.where(robust < 0, (truth + 1) % self._num_classes, robust)
                matrix = confusion_matrix(truth, wrong, self._num_classes)
                found[f"{prefix}robust_uar"] = float(uar(matrix))
        return found

    def _predictions(
        self, part: WaveformSource, variables: Any, with_trained: bool
    ) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"], Int[np.ndarray, " rows"] | None]:
        """Of the clean rows, under PGD, and under the training attack where it is another."""
        size = self._mesh.size
        batch_size = -(-min(_BATCH_ROWS, len(part)) // size) * size
        attacks = [self._pgd, *([self._trained] if with_trained and self._trained else [])]
        found: list[list[np.ndarray]] = [[] for _ in range(1 + len(attacks))]
        for start, (batch, count) in enumerate(evaluation_batches(part, batch_size=batch_size)):
            batch["ids"] = np.arange(start * batch_size, (start + 1) * batch_size, dtype=np.uint32)
            # Several processes have the same rows, each on its own devices.
            placed = put_batch(batch, self._mesh) if jax.process_count() == 1 else batch
            for index, attack in enumerate(attacks):
                x, x_adv = attack(variables, placed)
                if index == 0:
                    found[0].append(np.asarray(self._predict(variables, x))[:count])
                found[1 + index].append(np.asarray(self._predict(variables, x_adv))[:count])
        clean, robust, *others = (np.concatenate(each) for each in found)
        return clean, robust, others[0] if others else None


class _Programs:
    """An attack on batches of the watched rows: ``(variables, batch) -> (x, x_adv)``."""

    def __init__(self, logits_of: Any, defence: Defence, epsilon: float, attack: Attack) -> None:
        def start(variables: Any, batch: Mapping[str, Any]) -> Any:
            x = defence.inputs(variables, batch["x"])
            keys = row_keys(seed_key(0), batch["ids"])
            budget = jnp.full(x.shape[:1], epsilon, jnp.float32)
            logits_fn = functools.partial(logits_of, variables)
            return attack.init(logits_fn, keys, x, batch["y"], budget)

        def step(variables: Any, state: Any) -> Any:
            return attack.step(functools.partial(logits_of, variables), state)

        def steps(variables: Any, state: Any) -> Any:
            return jax.lax.fori_loop(0, attack.max_steps, lambda _, at: step(variables, at), state)

        # Loops of gradients of convolutions are the host's on a CPU, as in the driver.
        self._calls = attack.max_steps if on_cpu() else 1
        self._start = jax.jit(start)
        self._advance = jax.jit(step if on_cpu() else steps)

    def __call__(self, variables: Any, batch: Mapping[str, Any]) -> tuple[Array, Array]:
        state = self._start(variables, batch)
        for _ in range(self._calls):
            state = self._advance(variables, state)
        return state.x, state.x_adv


def collapsed(history: Sequence[Mapping[str, float]]) -> bool:
    """Whether the last epoch overfitted catastrophically: the training attack is withstood still,
    PGD no longer as in the best epoch before. Of epochs that stay so the first alone is one."""
    return _is_collapsed(history) and not _is_collapsed(history[:-1])


def best_before(history: Sequence[Mapping[str, float]]) -> float:
    """Robust accuracy of the best epoch before the last."""
    return max((epoch["robust_accuracy"] for epoch in history[:-1]), default=0.0)


def _is_collapsed(history: Sequence[Mapping[str, float]]) -> bool:
    if len(history) < 2 or "attack_accuracy" not in history[-1]:
        return False
    before, now = best_before(history), history[-1]["robust_accuracy"]
    apart = history[-1]["attack_accuracy"] - now
    return before > 0 and now <= _COLLAPSE * before and apart >= _APART


def best_robust_so_far(history: Sequence[Mapping[str, float]]) -> bool:
    """Whether the last epoch is more robust than all before: on the validation part, or, without
    one, on the training part. False where nothing is watched."""
    name = next((n for n in ("val_robust_uar", "robust_accuracy") if n in history[-1]), None)
    if name is None:
        return False
    return all(history[-1][name] > figures[name] for figures in history[:-1])

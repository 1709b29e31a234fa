"""Composite attacks: several attacks in turn, each on the rows that withstood the ones before.

    class Ensemble:                                   # a frozen dataclass, as attacks are
        name, targeted, bounds = "ensemble", False, (-1.0, 1.0)
        def attacks(self, num_classes):
            return PGD(steps=100), Square(queries=5_000)

A row's result is that of the first member that succeeds, or of the last one. Steps, queries and
gradients are summed over the members that worked on it. A row that is what the attack wants
before any member runs counts as a success of none, and costs nothing.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from jaxser.attacks.base import Attack
from jaxser.attacks.losses import is_successful
from jaxser.attacks.projections import Bounds
from jaxser.driver.meter import Meter, Stages, Watcher
from jaxser.driver.row_block import RowBlock
from jaxser.driver.scoring import no_change
from jaxser.driver.work import Work

__all__ = ["AttackSequence", "sequence_stream"]


@runtime_checkable
class AttackSequence(Protocol):
    """An attack that is made of attacks; a frozen, hashable dataclass.

    Attributes:
      name: registry name, as on the command line.
      targeted: whether labels are to be reached; the same in all members.
      bounds: valid range of an input, or None; the driver gives it to all members.
    """

    name: ClassVar[str]

    @property
    def targeted(self) -> bool: ...

    @property
    def bounds(self) -> Bounds: ...

    def attacks(self, num_classes: int) -> tuple[Attack, ...]:
        """The members in the order in which they run, for a victim of so many classes."""
        ...


# Attacks the pairs that are left with one member.


def members(attack: Attack | AttackSequence, num_classes: int) -> tuple[Attack, ...]:
    """The attacks that run: itself, or a sequence's members within the sequence's bounds."""
    if not isinstance(attack, AttackSequence):
        return (attack,)
    return tuple(
        dataclasses.replace(member, bounds=attack.bounds)  # type: ignore[type-var]
        for member in attack.attacks(num_classes)
    )


RunMember = Callable[[Attack, np.ndarray], Iterator[RowBlock]]

# Rows that need no attack come in blocks, so that memory does not grow with their number.
_UTTERANCES_PER_BLOCK = 64

_SUMMED = ("steps", "queries", "gradients", "seconds")


def sequence_stream(
    members: Sequence[Attack], work: Work, run_member: RunMember, meter: Meter, watcher: Watcher
) -> Iterator[RowBlock]:
    """Rows as they are decided."""
    left = np.ones(work.budgets.shape, bool)
    reached = is_successful(work.clean.prediction, work.labels, work.targeted)
    finished = 0
    left[reached] = False
    utterances = np.flatnonzero(reached)
    for start in range(0, len(utterances), _UTTERANCES_PER_BLOCK):
        some = utterances[start : start + _UTTERANCES_PER_BLOCK]
        finished += len(some) * work.budgets.shape[1]
        yield _as_they_are(work, some, meter, finished)
    spent = {name: np.zeros(left.shape) for name in _SUMMED}
    flags = np.zeros(left.shape, np.uint32)
    stages = watcher.stages = Stages(
        [member.name for member in members],
        [member.max_steps for member in members],
        left,
        finished,
        meter,
    )
    for stage, member in enumerate(members):
        stages.begin(stage)
        last = stage == len(members) - 1
        survivors = left.copy()
        for block in run_member(member, left):
            where = (block.utterance, block.epsilon_index)
            for name in _SUMMED:
                spent[name][where] += getattr(block, name)
            flags[where] |= block.flags
            survivors[where] &= ~block.success
            decided = block.success | last
            stages.add(where, decided)
            if not decided.any():
                continue
            total: dict[str, Any] = {
                name: spent[name][where].astype(getattr(block, name).dtype) for name in _SUMMED
            }
            summed = dataclasses.replace(
                block,
                flags=flags[where],
                stage=np.where(block.success, stage, -1),
                found_norm=np.full(len(block), np.nan),
                throughput=dataclasses.replace(block.throughput, rows=stages.finished),
                **total,
            )
            yield summed.take(decided)
        left = survivors
        if watcher.stopped or not left.any():
            return


def _as_they_are(
    work: Work, utterances: Int[np.ndarray, " some"], meter: Meter, finished: int
) -> RowBlock:
    """Rows of utterances that need no attack, at every ε."""
    count = work.budgets.shape[1]
    utterance, epsilon = np.repeat(utterances, count), np.tile(np.arange(count), len(utterances))
    rows = len(utterance)
    nothing = np.zeros(rows, np.int32)
    return RowBlock(
        utterance=utterance,
        epsilon_index=epsilon,
        epsilon_amplitude=work.budgets[utterance, epsilon],
        prediction=work.clean.prediction[utterance],
        success=np.ones(rows, bool),
        success_share=np.ones(rows, np.float32),
        logits=work.clean.logits[utterance],
        steps=nothing,
        queries=nothing,
        gradients=nothing,
        flags=work.clean.flags[utterance],
        stage=np.full(rows, -1),
        found_norm=np.full(rows, np.nan),
        measures={name: np.full(rows, value, np.float32) for name, value in no_change().items()},
        seconds=np.zeros(rows),
        x_adv=work.source.batch(utterance) if work.keep_x_adv else None,
        throughput=dataclasses.replace(meter.throughput, rows=finished),
    )

"""A sweep on Ray: shares of its cells are tasks, and actors that hold a victim work them off.

    outcomes = sweep_on_ray(config, workers=2)           # RAY_ADDRESS says which cluster, if any

An actor has one accelerator, or a CPU where there is none, and keeps the victim and the compiled
programs from one task to the next. When an actor dies, Ray starts another wherever there is room,
and its task goes to whoever is free first, who makes only the rows that are missing. Victims,
speech and the folder of rows must be under the same path on every machine.
"""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from jaxser.config.sweep import Cell, SweepConfig, cells
from jaxser.results.outcomes import Outcome, note_outcomes
from jaxser.runtime.determinism import be_deterministic
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.sharding import Share

try:
    import ray
except ModuleNotFoundError:
    ray = None

__all__ = ["sweep_on_ray"]

# Tasks per worker and cell: the more, the less the last one is waited for, and the more often
# speech is looked up.
_SHARES_PER_WORKER = 4

# How many actors may die over a task, or before their first one, until that counts as a failure.
_TRIES = 3

# How Ray is asked for one accelerator, by what it calls them.
_ACCELERATORS: dict[str, dict[str, Any]] = {
    "GPU": {"num_gpus": 1},
    "TPU": {"resources": {"TPU": 1}},
}


def sweep_on_ray(
    config: SweepConfig, workers: int | None = None, deterministic: bool = False
) -> list[Outcome]:
    """Attack what is missing; what became of every cell is noted beside the rows as it comes.

    Args:
      config: the sweep, whose folder this process holds.
      workers: actors; one per accelerator by default, or one where there is none.
      deterministic: see :mod:`jaxser.runtime.determinism`.

    Raises:
      UsageError: Ray is not installed, or has no room for so many workers.
      InputError: workers die before they have begun.
      OSError: a full disk, or a folder that is gone.
    """
    if ray is None:
        raise UsageError("--engine ray needs Ray; install it with pip install 'jaxser[ray]'.")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1, not {workers}.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # On this machine alone, every worker that was asked for gets a CPU, however few the cores are.
    where = {} if os.environ.get("RAY_ADDRESS") else {"address": "local", "num_cpus": workers}
    with ray.init(log_to_driver=False, logging_level="error", **where):
        return _Engine(config, *_room(workers), deterministic).run()


def _room(workers: int | None) -> tuple[int, dict[str, Any]]:
    """How many workers there are, and what Ray is asked for each."""
    there = ray.cluster_resources()
    kind = next((kind for kind in _ACCELERATORS if there.get(kind)), "CPU")
    most = int(there.get(kind, 0))
    wanted = workers or (1 if kind == "CPU" else most)
    if wanted > most:
        raise UsageError(
            f"--workers {wanted} are more than the {most} {kind}s of the Ray cluster; give fewer."
        )
    return wanted, _ACCELERATORS.get(kind, {"num_cpus": 1})


@dataclasses.dataclass(eq=False)
class _Task:
    """A share of a cell."""

    cell: Cell
    share: Share
    deaths: int = 0


class _Worker:
    """What an actor is: a runner of cells with its victim, its speech and its programs."""

    def __init__(self, config: SweepConfig, number: int, deterministic: bool) -> None:
        from jaxser.experiments.sweep import CellRunner
        from jaxser.runtime.compilation import enable_compilation_cache

        be_deterministic(config.out, deterministic, number)
        enable_compilation_cache()
        self._runner = CellRunner(config, shown=False)

    def ready(self) -> None:
        """Returns once the actor is there."""

    def attack(self, cell: Cell, share: Share) -> Outcome:
        return self._runner.run(cell, share)


class _Engine:
    """Gives tasks to actors until none is left."""

    def __init__(
        self, config: SweepConfig, workers: int, each: dict[str, Any], deterministic: bool
    ) -> None:
        self._config = config
        self._workers = workers
        self._deterministic = deterministic
        self._actor = ray.remote(**each)(_Worker)
        self._cells = list(cells(config))
        self._tasks = list(self._all_tasks())[::-1]
        self._total = len(self._tasks)
        # By what is waited for: the actor, its number and its task.
        self._running: dict[Any, tuple[Any, int, _Task | None]] = {}
        self._deaths_at_start = 0
        self._ended: dict[str, list[Outcome]] = {cell.name: [] for cell in self._cells}

    def run(self) -> list[Outcome]:
        for number in range(min(self._workers, self._total)):
            self._start(number)
        with tqdm(total=self._total, desc="shares", dynamic_ncols=True) as bar:
            while bar.n < self._total:
                (reference,), _ = ray.wait(list(self._running), num_returns=1)
                outcome = self._ended_one(reference)
                if outcome is not None:
                    self._ended[outcome.cell].append(outcome)
                    note_outcomes(self._config.out, self._outcomes())
                    rows = sum(each.rows for ended in self._ended.values() for each in ended)
                    bar.set_postfix_str(f"{rows:,} rows", refresh=False)
                    bar.update()
        return self._outcomes()

    def _all_tasks(self) -> Iterator[_Task]:
        count = self._workers * _SHARES_PER_WORKER
        for cell in self._cells:
            yield from (_Task(cell, Share(index, count)) for index in range(count))

    def _start(self, number: int) -> None:
        actor = self._actor.remote(self._config, number, self._deterministic)
        self._running[actor.ready.remote()] = actor, number, None

    def _ended_one(self, reference: Any) -> Outcome | None:
        """What became of a task, if it was one; its actor gets the next, or is started anew."""
        actor, number, task = self._running.pop(reference)
        try:
            outcome = ray.get(reference)
        except ray.exceptions.RayActorError as error:
            self._start(number)
            return self._given_up(task, error)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # a full disk: see CellRunner.run
        if self._tasks:
            following = self._tasks.pop()
            call = actor.attack.remote(following.cell, following.share)
            self._running[call] = actor, number, following
        return outcome if task else None

    def _given_up(self, task: _Task | None, error: Exception) -> Outcome | None:
        """A failure, where too many actors have died; otherwise the task is put back."""
        reason = " ".join(str(error).split())[:500]
        if task is None:
            self._deaths_at_start += 1
            if self._deaths_at_start == _TRIES:
                raise InputError(f"the workers die before they have begun: {reason}")
            return None
        task.deaths += 1
        if task.deaths == _TRIES:
            return Outcome(task.cell.name, reason=f"its worker died {_TRIES} times: {reason}")
        self._tasks.append(task)
        return None

    def _outcomes(self) -> list[Outcome]:
        """Of the cells that have come to an end."""
        shares = self._workers * _SHARES_PER_WORKER
        return [
            Outcome(
                name,
                sum(each.rows for each in ended),
                next((each.reason for each in ended if each.reason), ""),
            )
            for name, ended in self._ended.items()
            if len(ended) == shares
        ]

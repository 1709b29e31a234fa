"""What the host does for a row, beside a victim that takes next to no time.

for line in host_times(turns=3):
    line.driving_us, line.rows_per_second

The victim is one small product and its inputs are short, so that what is left is the host's: calls,
indices, results, and where rows are kept, columns and Parquet files, which another thread makes.
The attacks run as on an accelerator: with its loop where they are a bare stream, in batches of its
size. Time is the processor's, so that other programs and waiting do not count; what a call of a
compiled program takes in the thread that drives the devices is told apart, as a CPU computes small
ones there and then.
"""

import contextlib
import dataclasses
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

if TYPE_CHECKING:
    from jaxser.attacks import Attack
    from jaxser.experiments.run import Run
    from jaxser.victims.victim import Victim

__all__ = ["HostTime", "host_times", "print_host_times"]

_LABELS = tuple("abcdefg")
_SAMPLES, _BATCH = 64, 256
_UTTERANCES = 1024


@dataclasses.dataclass(frozen=True)
class HostTime:
    """One attack; lists have one value per turn.

    Attributes:
      attack: its name.
      kept: whether rows are written to files.
      rows: of each turn.
      rows_per_second: by the wall clock.
      driving_us: of the thread that drives the devices, in microseconds per row, without calls.
      calling_us: of its calls of compiled programs.
      process_us: of all threads, the victim's among them.
    """

    attack: str
    kept: bool
    rows: int
    rows_per_second: list[float]
    driving_us: list[float]
    calling_us: list[float]
    process_us: list[float]


def host_times(turns: int) -> list[HostTime]:
    """FGSM and PGD, as the bare stream and with their rows kept."""
    from jaxser.attacks import FGSM, PGD

    victim, x, y = _small_victim()
    epsilons = tuple(0.001 * (1 + i) for i in range(16))
    found = []
    for attack in (FGSM(), PGD(steps=20)):
        for kept in (False, True):
            done = [_turn(victim, x, y, attack, epsilons, kept) for _ in range(1 + turns)][1:]
            rows = len(x) * len(epsilons)
            found.append(HostTime(attack.name, kept, rows, *map(list, zip(*done, strict=True))))
    return found


def print_host_times(lines: list[HostTime]) -> None:
    """A line for each."""
    for line in lines:
        rate, driving, calling, process = map(
            statistics.median,
            (line.rows_per_second, line.driving_us, line.calling_us, line.process_us),
        )
        print(
            f"{line.attack:6} {'rows kept' if line.kept else 'stream':10} {line.rows:7} rows "
            f"{rate:9.0f} rows/s  driving thread {driving:6.1f} us/row  its calls {calling:6.1f}  "
            f"all threads {process:6.1f}"
        )


def _turn(
    victim: "Victim", x: np.ndarray, y: np.ndarray, attack: "Attack", epsilons: Any, kept: bool
) -> tuple[float, float, float, float]:
    """Rows per second, and microseconds per row of the driving thread, calls and the process."""
    clocks = time.perf_counter, time.thread_time, time.process_time
    with tempfile.TemporaryDirectory() as folder:
        run = _run_of(victim, x, y, attack, epsilons, Path(folder)) if kept else None
        with _calls_timed() as calls:
            begun = [clock() for clock in clocks]
            if run is None:
                rows = _streamed(victim, x, y, attack, epsilons)
            else:
                from jaxser.experiments.attack import attack_missing_rows

                rows = attack_missing_rows(run, shown=False).rows
        wall, driving, process = (
            clock() - start for clock, start in zip(clocks, begun, strict=True)
        )
    assert rows == len(x) * len(epsilons)
    calling, each = sum(calls), 1e6 / rows
    return rows / wall, each * (driving - calling), each * calling, each * process


@contextlib.contextmanager
def _calls_timed() -> Iterator[list[float]]:
    """Seconds of the processor of every call of a compiled program in this thread."""
    from jax.stages import Compiled

    real, seconds, own = Compiled.__call__, [], threading.get_ident()

    def timed(compiled: Any, *arguments: Any) -> Any:
        start = time.thread_time()
        try:
            return real(compiled, *arguments)
        finally:
            if threading.get_ident() == own:
                seconds.append(time.thread_time() - start)

    with mock.patch.object(Compiled, "__call__", timed):
        yield seconds


def _streamed(
    victim: "Victim", x: np.ndarray, y: np.ndarray, attack: "Attack", epsilons: Any
) -> int:
    from jaxser.driver.run import attack_rows

    return sum(
        len(block)
        for block in attack_rows(
            victim,
            x,
            y,
            attack,
            epsilons,
            batch_size=_BATCH,
            loop="device",
            clean=_clean(victim, x),
        )
    )


def _small_victim() -> "tuple[Victim, np.ndarray, np.ndarray]":
    from jaxser.driver.run import predict
    from jaxser.victims.victim import Victim

    rng = np.random.default_rng(0)
    weights = rng.normal(size=(_SAMPLES, len(_LABELS))).astype(np.float32)
    victim = Victim(
        apply=lambda variables, x: x @ variables,
        variables=weights,
        labels=_LABELS,
        input_shape=(_SAMPLES,),
    )
    x = rng.uniform(-0.5, 0.5, (_UTTERANCES, _SAMPLES)).astype(np.float32)
    return victim, x, predict(victim, x, batch_size=_BATCH)


_CLEAN: dict[int, Any] = {}


def _clean(victim: "Victim", x: np.ndarray) -> Any:
    """The clean pass, once: neighbouring cells of a sweep share it."""
    from jaxser.driver.run import clean_pass

    if id(victim) not in _CLEAN:
        _CLEAN[id(victim)] = clean_pass(victim, x, batch_size=_BATCH)
    return _CLEAN[id(victim)]


def _run_of(
    victim: "Victim",
    x: np.ndarray,
    y: np.ndarray,
    attack: "Attack",
    epsilons: Any,
    folder: Path,
) -> "Run":
    """A run as the attack command prepares it, of utterances that no corpus has."""
    from jaxser.config import AttackCommandConfig
    from jaxser.corpora import Utterance
    from jaxser.driver.speech import Speech
    from jaxser.experiments.preparation import prepare_run

    utterances = [
        Utterance(f"u{i:05}", Path(f"u{i:05}.wav"), _LABELS[label], f"speaker{i % 10}")
        for i, label in enumerate(y)
    ]
    corpus = SimpleNamespace(
        name="made", title="made", language="none", synthetic=True, notes=(), utterances=utterances
    )
    places = np.arange(len(x))
    speech = Speech(
        victim=victim,
        fingerprint="0",
        scheme=("made",),
        prepared=SimpleNamespace(corpus=corpus, fingerprint="0"),  # type: ignore[arg-type]
        positions=places,
        inputs=x,
        places=places,
        labels=y,
        clean=_clean(victim, x),
    )
    config = AttackCommandConfig(
        victim=Path("made"), attack=attack.name, epsilon=tuple(epsilons), batch_size=_BATCH
    )
    return prepare_run(config, speech, folder)

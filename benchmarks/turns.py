"""Sides that take turns: the best batch size of each, its rates turn by turn, ratios with spread.

    batch = {name: best_batch(run, x, sizes) for name, run in runs.items()}
    rates = take_turns({name: lambda: rows_per_second(run, x) for name, run in runs.items()}, 5)
    print(spread(ratios(rates["jaxser"], rates["torch"])))

A machine is faster at one time than at another, and other programs come and go. So sides run
A B A B within one process, and a ratio is that of two neighbouring turns.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

__all__ = [
    "CLOCKS",
    "best_batch",
    "ratios",
    "rows_per_second",
    "seconds_of",
    "spread",
    "take_turns",
    "timed",
]

Side = TypeVar("Side")
Result = TypeVar("Result")


Clock = Callable[[], float]

# What time is taken by.
CLOCKS: Mapping[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}


def timed(run: Callable[[], Result], clock: Clock = time.perf_counter) -> tuple[float, Result]:
    """Seconds of one call, and what it returned."""
    start = clock()
    result = run()
    return clock() - start, result


def seconds_of(run: Callable[[Any], Any], x: Any, clock: Clock = time.perf_counter) -> float:
    """Of one call."""
    return timed(lambda: run(x), clock)[0]


def rows_per_second(
    run: Callable[[Any], Any], x: Any, at_least: float = 0.0, clock: Clock = time.perf_counter
) -> float:
    """Of calls with all rows of ``x``, after one that is not counted.

    Memory that a side gave back while the other had its turn has to be mapped anew, which a virtual
    machine pays for: 1 s of a call of 3.4 s here. Calls that follow each other, as in use, do not.

    Args:
      run: does the work for a batch, to the end.
      x: the batch.
      at_least: seconds to go on for; one call is counted in any case.
      clock: seconds since some time, of the wall by default.
    """
    run(x)
    calls, spent = 0, 0.0
    while not calls or spent < at_least:
        spent += seconds_of(run, x, clock)
        calls += 1
    return calls * len(x) / spent


def best_batch(run: Callable[[Any], Any], x: Any, sizes: list[int], at_least: float = 0.0) -> int:
    """The batch size with most rows per second, best of two; a single one is not measured."""
    if len(sizes) == 1:
        return sizes[0]
    rates = {
        size: max(rows_per_second(run, x[:size], at_least) for _ in range(2)) for size in sizes
    }
    return max(rates, key=lambda size: rates[size])


def take_turns(sides: Mapping[Side, Callable[[], Result]], turns: int) -> dict[Side, list[Result]]:
    """Call all sides one after the other, as often as there are turns; what each returned."""
    done: dict[Side, list[Result]] = {side: [] for side in sides}
    for _ in range(turns):
        for side, run in sides.items():
            done[side].append(run())
    return done


def ratios(rates: Sequence[float], peer_rates: Sequence[float]) -> list[float]:
    """Of rates in neighbouring turns; above 1 where the first side is faster."""
    return [mine / its for mine, its in zip(rates, peer_rates, strict=True)]


def spread(values: Sequence[float], form: str = ".2f", width: int = 0) -> str:
    """Median, smallest and largest value, such as "2.10 (1.87–2.26)"; the median in ``width``."""
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median:{width or ''}{form}} ({low:{form}}–{high:{form}})"

"""A thread that works through what it is given, and its errors."""

import threading

import pytest

from jaxser.runtime.in_order import InOrder


def test_all_is_done_in_order_in_another_thread() -> None:
    done: list[tuple[int, int]] = []
    with InOrder(most_waiting=2) as worker:
        for number in range(20):
            worker.give(lambda each: done.append((each, threading.get_ident())), number)
    assert [number for number, _ in done] == list(range(20))
    assert {thread for _, thread in done}.isdisjoint({threading.get_ident()})


def test_the_giver_waits_where_too_much_waits() -> None:
    gate, given = threading.Event(), []

    def give() -> None:
        with InOrder(most_waiting=2) as worker:
            for number in range(6):
                worker.give(gate.wait)
                given.append(number)

    giver = threading.Thread(target=give)
    giver.start()
    giver.join(timeout=0.2)
    # One is at work and two wait.
    assert giver.is_alive()
    assert len(given) == 3
    gate.set()
    giver.join()
    assert len(given) == 6


def fail() -> None:
    raise OSError("the disk is full")


def test_an_error_reaches_the_giver_and_nothing_is_done_after_it() -> None:
    done: list[int] = []

    def give() -> None:
        with InOrder(most_waiting=4) as worker:
            worker.give(fail)
            while True:
                worker.give(done.append, 1)

    with pytest.raises(OSError, match="the disk is full"):
        give()
    assert not done


def test_an_error_of_the_last_thing_reaches_the_giver_at_the_end() -> None:
    with pytest.raises(OSError, match="the disk is full"), InOrder(most_waiting=1) as worker:
        worker.give(fail)


def test_what_was_given_is_done_though_the_giver_fails() -> None:
    done: list[int] = []

    def give() -> None:
        with InOrder(most_waiting=4) as worker:
            for number in range(4):
                worker.give(done.append, number)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give()
    assert done == [0, 1, 2, 3]

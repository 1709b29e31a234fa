"""Smallest known perturbations, optimality as AttackBench has it, and McNemar's test."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from jaxser.results.paired import mcnemar
from jaxser.results.smallest import budget_sizes, known_sizes, optimality, smallest_sizes
from jaxser.results.units import Units

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "optimality.json"


def test_the_smallest_that_fooled() -> None:
    units = Units.of(np.array([0, 0, 1, 1, 2, 2, 3]))
    sizes = np.array([0.3, 0.1, 0.2, 0.4, 0.5, 0.6, 0.7])
    fooled = np.array([True, True, False, True, False, False, True])
    wrong = np.arange(7) == 6
    found = smallest_sizes(np.where(fooled, sizes, np.inf), wrong, units)
    assert found.tolist() == [0.1, 0.4, np.inf, -np.inf]


def test_sizes_on_the_axis_of_epsilon() -> None:
    epsilons, norms = np.array([0.1, np.inf, 0.2]), np.array([0.05, 0.3, np.nan])
    assert budget_sizes("amplitude", epsilons, norms).tolist() == [0.05, 0.3, 0.2]
    # A larger SNR is a smaller perturbation, whatever its norm.
    assert budget_sizes("snr_peak", np.array([30.0, 20.0]), norms[:2]).tolist() == [-30, -20]
    # The second found one beyond its ε, and the third needed none.
    found, fooled = np.array([0.04, 0.3, 0.0]), np.array([True, False, False])
    epsilons, norms = np.full(3, 0.1), np.array([0.05, 0.0, 0.0])
    known = known_sizes("amplitude", epsilons, norms, found, fooled)
    assert known.tolist() == [0.04, 0.3, np.inf]
    # It is a norm, and no SNR.
    known = known_sizes("snr_peak", np.full(3, 20.0), norms, found, fooled)
    assert known.tolist() == [-20, np.inf, np.inf]


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text()), ids=range(4))
def test_optimality_is_that_of_attackbench(case: dict[str, list[list[float]]]) -> None:
    found = {str(i): np.array(each, float) for i, each in enumerate(case["found"])}
    assert list(optimality(found).values()) == pytest.approx(case["optimality"], abs=1e-12)
    # What is wrong to begin with counts the same, however it is told.
    told = {name: np.where(each == 0, -np.inf, each) for name, each in found.items()}
    assert optimality(told) == optimality(found)


def test_the_best_is_optimal_and_who_fools_nobody_is_worth_nothing() -> None:
    none = np.array([np.inf, np.inf, np.inf, 0.0])
    found = optimality({"best": np.array([0.1, 0.2, 0.3, 0.0]), "none": none})
    assert found == pytest.approx({"best": 1.0, "none": 0.0})
    assert all(math.isnan(each) for each in optimality({"a": none, "b": none}).values())


def test_mcnemar_counts_coins() -> None:
    a = np.array([True] * 9 + [False] * 2 + [True] * 20)
    b = np.array([False] * 9 + [True] * 2 + [True] * 20)
    tail = sum(math.comb(11, k) for k in range(3)) / 2**11
    assert mcnemar(a, b) == pytest.approx(2 * tail)
    assert mcnemar(a, a) == 1

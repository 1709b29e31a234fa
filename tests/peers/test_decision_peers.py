"""Boundary and HopSkipJump against ART and Foolbox, live, on the same weights."""

from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
import small_victims
from golden_scripts import load_script

from jaxser import run_attack
from jaxser.attacks.boundary import Boundary
from jaxser.attacks.hopskipjump import HopSkipJump

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ONE = jax.devices()[:1]
FAR = 1e6
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    return load_script("golden_decision")


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_compat_art_walks_as_art_does_on_the_same_random_numbers(
    oracle: ModuleType, kind: str, targeted: bool
) -> None:
    model, x, y = oracle.inputs_and_predictions(kind)
    x = x[:8]
    y = (y[:8] + targeted) % small_victims.CLASSES
    theirs = oracle.art_boundary(model, x, y, targeted)
    ours = run_attack(
        small_victims.small_victim(kind),
        x,
        y,
        oracle.paired(targeted),
        [FAR],
        seed=oracle.SEED,
        devices=ONE,
    )
    there = np.abs(theirs - x).max(axis=1) > 0
    np.testing.assert_array_equal(ours.success[0], there)
    apart = np.abs(ours.x_adv[0] - theirs).max(axis=1)
    assert there.any()
    assert (apart < 1e-5).mean() > 0.7


@pytest.mark.parametrize(
    ("peer", "name", "norm"),
    [
        ("foolbox", "boundary", "l2"),
        ("foolbox", "hopskipjump", "l2"),
        ("foolbox", "hopskipjump", "linf"),
        ("art", "hopskipjump", "l2"),
        ("art", "hopskipjump", "linf"),
    ],
)
def test_no_peer_gets_closer_on_as_many_queries(
    oracle: ModuleType, peer: str, name: str, norm: Any
) -> None:
    model, x, y = oracle.inputs_and_predictions("conv")
    theirs, queries = oracle.found_by(peer, name, norm, model, x, y)
    attack: Any = (
        Boundary(queries=queries) if name == "boundary" else HopSkipJump(norm=norm, queries=queries)
    )
    victim = small_victims.small_victim("conv")
    ours = [run_attack(victim, x, y, attack, [FAR], seed=seed, devices=ONE) for seed in SEEDS]
    assert all(each.success.all() for each in ours)
    assert all((each.queries <= queries).all() for each in ours)
    # Where its start fails, ART returns the clean input.
    theirs = np.where(theirs > 0, theirs, np.inf)
    reached = np.median([each.measures[norm] for each in ours])
    assert reached < 1.05 * np.median(theirs)

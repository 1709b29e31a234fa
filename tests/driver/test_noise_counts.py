"""Votes under noise: the closed form of a linear victim, and the same counts in any batch."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from scipy import stats

import jaxser.driver.noise_counts
from jaxser.attacks.base import row_keys
from jaxser.driver.noise_counts import MOST_DRAWS, Votes, noise_votes
from jaxser.results.smoothing_bounds import certified_radius, lower_bound
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.numerics import seed_key
from jaxser.victims.smoothing import smoothed
from jaxser.victims.victim import Victim

DEVICES = jax.devices()
SIGMA = 0.25


def votes(victim: Any, x: np.ndarray, **options: Any) -> list[Votes]:
    settings: dict[str, Any] = {"sigma": SIGMA, "selection": 6, "samples": 40, "seed": 3}
    return list(noise_votes(victim, x, **{"devices": DEVICES[:1], **settings, **options}))


def counted(found: list[Votes]) -> dict[int, list[list[int]]]:
    return {each.row: [each.selection.tolist(), each.counts.tolist()] for each in found}


def test_the_radius_of_a_linear_victim_is_its_distance_from_the_plane() -> None:
    """Under noise w·x crosses 0 with probability Φ(-w·x / σ|w|), so the radius is w·x / |w|."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=8)
    distance = np.linspace(0.02, 0.4, 14)
    beside = rng.normal(0, 0.3, (14, 8))
    beside -= np.outer(beside @ w, w) / (w @ w)
    x = (beside + np.outer(distance, w / np.linalg.norm(w))).astype(np.float32)
    kernel = jnp.asarray(np.stack([-w, w], axis=1), jnp.float32)
    samples, alpha = 20_000, 0.001
    found = votes(lambda x: x @ kernel, x, samples=samples, selection=200, batch_size=4000)
    assert [each.row for each in found] == list(range(14))
    right = np.array([each.counts[1] for each in found])
    p_value = [
        stats.binomtest(int(k), samples, stats.norm.cdf(d / SIGMA)).pvalue
        for k, d in zip(right, distance, strict=True)
    ]
    assert min(p_value) > 1e-4
    radius = certified_radius(SIGMA, lower_bound(right, samples, alpha))
    # Each is over it with a probability of 0.001.
    assert (np.nan_to_num(radius) <= distance).all()
    assert (distance - np.nan_to_num(radius) < 0.1 * SIGMA).all()
    assert (np.isnan(radius) == (distance < 0.005)).all()
    assert all(each.selection.argmax() == 1 for each in found[2:])
    assert all(each.counts.sum() == samples and each.selection.sum() == 200 for each in found)


def test_counts_depend_on_neither_batch_nor_devices_nor_neighbours() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(5)
    base = counted(votes(victim, x))
    assert len({str(each[1]) for each in base.values()}) > 2  # the noise decides
    assert counted(votes(victim, x, devices=DEVICES[:2])) == base
    assert counted(votes(victim, x, batch_size=23)) == base
    assert counted(votes(victim, x, batch_size=1000)) == base  # all of an utterance at once
    names = [f"u{i}" for i in range(5)]
    named = counted(votes(victim, x, ids=names))
    assert named != base
    back = counted(votes(victim, x, ids=names[::-1], subset=np.arange(5)[::-1]))
    assert {4 - row: each for row, each in back.items()} == named
    assert counted(votes(victim, x, seed=4)) != base


def test_the_draws_are_those_of_the_keys_and_more_begin_alike() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(2)
    keys = row_keys(seed_key(3), jnp.arange(2, dtype=jnp.uint32))
    expected = np.zeros((2, 40, small_victims.CLASSES + 1), int)
    for row in range(2):
        for draw in range(40):
            key = jax.random.fold_in(keys[row], np.uint32(draw))
            noise = jax.random.normal(key, x.shape[1:])
            logits = np.asarray(victim.logits(x[row][None] + SIGMA * noise[None]))
            expected[row, draw, logits.argmax()] += 1
    for samples in (15, 40):
        found = votes(victim, x, samples=samples)
        for each in found:
            np.testing.assert_array_equal(each.counts, expected[each.row, :samples].sum(axis=0))
    # What chooses the class is other noise, whatever number of draws there is.
    first = counted(votes(victim, x, samples=3, selection=40))
    assert [each[0] for each in first.values()] != [each[1] for each in counted(found).values()]


def test_loops_on_the_device_and_groups_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on accelerators: several batches in a call, and utterances in groups."""
    victim, x = small_victims.small_victim("linear"), small_victims.waveforms(5)
    base = counted(votes(victim, x))
    stream = jaxser.driver.noise_counts._Stream

    def looping(*arguments: Any) -> Any:
        return stream(*arguments[:-1], 3)

    monkeypatch.setattr(jaxser.driver.noise_counts, "_Stream", looping)
    monkeypatch.setattr(jaxser.driver.noise_counts, "_GROUP", 2)
    for devices in (DEVICES[:1], DEVICES[:2]):
        assert counted(votes(victim, x, batch_size=8, devices=devices)) == base


def test_memory_that_runs_out_halves_the_batch_and_counts_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    victim, x = small_victims.small_victim("linear"), small_victims.waveforms(3)
    base = counted(votes(victim, x))
    stream, sizes, told = jaxser.driver.noise_counts._Stream, [], []

    class Full(stream):  # type: ignore[misc,valid-type]
        def votes(self, *arguments: Any) -> Any:
            sizes.append(self._rows)
            for each in super().votes(*arguments):
                yield each
                if self._rows > 10 and isinstance(each, Votes):
                    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no memory")

    monkeypatch.setattr(jaxser.driver.noise_counts, "_Stream", Full)

    def watch(passes: int) -> bool:
        told.append(passes)
        return True

    assert counted(votes(victim, x, batch_size=32, watch=watch)) == base
    assert sizes == [32, 16, 8]
    assert told == sorted(told)
    assert told[-1] == 3 * 46


def test_who_watches_may_end_it() -> None:
    victim, x = small_victims.small_victim("linear"), small_victims.waveforms(4)
    told: list[int] = []

    def watch(passes: int) -> bool:
        told.append(passes)
        return passes < 60

    found = votes(victim, x, batch_size=10, watch=watch)
    assert [each.row for each in found] == [0]
    assert told == [10, 20, 30, 40, 50, 60]


def test_logits_that_are_not_finite_are_no_answer() -> None:
    def victim(x: jax.Array) -> jax.Array:
        return jnp.where(x[:, :1] > 0, jnp.nan, x[:, :2])

    found = votes(victim, np.zeros((1, 4), np.float32))
    assert 10 < found[0].counts[-1] < 30
    assert found[0].counts.sum() == 40


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sigma": 0.0}, "a standard deviation over 0, not 0"),
        ({"sigma": -1.0}, "a standard deviation over 0, not -1"),
        ({"sigma": float("nan")}, "a standard deviation over 0, not nan"),
        ({"samples": 0}, "samples must be"),
        ({"selection": 0}, "selection must be"),
        ({"samples": MOST_DRAWS + 1}, "2,147,483,647 draws of the noise at most"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"victim": smoothed(small_victims.small_victim("linear"), 0.1)}, "has noise of its own"),
    ],
)
def test_what_cannot_be_counted_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    victim: Victim = small_victims.small_victim("linear")
    with pytest.raises(UsageError, match=sentence):
        votes(**{"victim": victim, "x": small_victims.waveforms(2), **options})


def test_inputs_of_another_domain_are_refused() -> None:
    victim = dataclasses.replace(small_victims.small_victim("linear"), name="emo18")
    with pytest.raises(InputError, match=r"emo18 takes inputs of shape \(64,\)"):
        votes(victim, small_victims.spectrograms(2))

"""ε in its units, and attacks that look for the smallest perturbation and are thresholded."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import small_victims
from toy_attacks import Nearest

from jaxser import run_attack
from jaxser.attacks import FGSM, PGD, SparseFool
from jaxser.attacks.projections import Norm
from jaxser.driver.budgets import amplitudes
from jaxser.driver.result import AttackResult
from jaxser.driver.run import attack_rows
from jaxser.driver.source import Source
from jaxser.runtime.errors import InputError, UsageError

ONE_DEVICE = jax.devices()[:1]
COUNT = 20


def distances() -> np.ndarray:
    """Distance of each input to the nearest other class of the linear victim, in closed form."""
    weights, x = small_victims.linear_weights(), small_victims.waveforms(COUNT).astype(np.float64)
    logits = x @ weights["kernel"] + weights["bias"]
    own = logits.argmax(axis=1)
    away = np.full(logits.shape, np.inf)
    for row in range(COUNT):
        for other in set(range(small_victims.CLASSES)) - {own[row]}:
            normal = weights["kernel"][:, own[row]] - weights["kernel"][:, other]
            gap = logits[row, own[row]] - logits[row, other]
            away[row, other] = gap / np.linalg.norm(normal)
    return away.min(axis=1)


def search(attack: Any = Nearest(), epsilons: Any = (np.inf,), **options: Any) -> AttackResult:  # noqa: B008
    return run_attack(
        small_victims.small_victim("linear"),
        small_victims.waveforms(COUNT),
        None,
        attack,
        epsilons,
        **{"batch_size": 8, "devices": ONE_DEVICE, **options},
    )


def test_the_smallest_perturbation_is_thresholded_at_every_epsilon() -> None:
    away = distances()
    budgets = [float(np.quantile(away, share)) for share in (0.1, 0.5, 0.9)]
    result = search(epsilons=[*budgets, np.inf])
    x = small_victims.waveforms(COUNT)
    for e, budget in enumerate([*budgets, np.inf]):
        within = away * 1.0001 <= budget
        np.testing.assert_array_equal(result.success[e], within)
        np.testing.assert_array_equal(result.x_adv[e][~within], x[~within])
        np.testing.assert_allclose(result.measures["l2"][e][within], away[within], rtol=2e-4)
        assert (result.measures["l2"][e][~within] == 0).all()
        assert np.isnan(result.measures["snr_power"][e][~within]).all()
        np.testing.assert_array_equal(
            result.prediction[e][~within], result.clean_prediction[~within]
        )
        np.testing.assert_allclose(result.found_norm[e], away, rtol=2e-4)
        assert (result.queries[e] == 1).all()
        assert (result.gradients[e] == small_victims.CLASSES).all()
    # One step of three batches of 8 served all four ε, and every row bears its share of the time.
    assert result.throughput.row_steps == 3 * 8
    assert result.throughput.wasted_row_steps == 3 * 8 - COUNT
    assert result.throughput.rows == 4 * COUNT


def test_a_perturbation_that_just_fits_succeeds() -> None:
    norms = search().found_norm[0]
    exactly = search(epsilons=[float(norms[3]), float(norms[3]) * (1 - 1e-4)])
    assert exactly.success[:, 3].tolist() == [True, False]


def test_a_search_in_steps_agrees_with_the_sweep_over_the_same_steps() -> None:
    """Rounding to float32 may not push a perturbation of size ε beyond ε."""
    steps = [0.001 * k for k in range(1, 31)]
    x = small_victims.waveforms(COUNT)
    options: dict[str, Any] = {"batch_size": 10, "devices": ONE_DEVICE}
    victim = small_victims.small_victim("conv")
    search = FGSM(minimal=True, step_size=0.001, max_epsilon=0.03)
    found = run_attack(victim, x, None, search, steps, **options)
    sweep = run_attack(victim, x, None, FGSM(), steps, **options)
    expected = np.maximum.accumulate(sweep.success, axis=0)
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(found.success, expected)


def test_what_was_not_found_stays_clean() -> None:
    away = distances()
    result = search(Nearest(gives_up_beyond=float(np.median(away))), [0.5, np.inf])
    missing = away > np.median(away)
    assert missing.any()
    assert not result.success[1][missing].any()
    assert np.isnan(result.found_norm[:, missing]).all()
    assert result.success[1][~missing].all()
    x = small_victims.waveforms(COUNT)
    np.testing.assert_array_equal(result.x_adv[1][missing], x[missing])


def test_rows_that_need_no_perturbation_are_found_at_once() -> None:
    clean = search().clean_prediction
    wrong = (clean + 1) % small_victims.CLASSES
    result = run_attack(
        small_victims.small_victim("linear"),
        small_victims.waveforms(COUNT),
        wrong,
        Nearest(),
        [1e-6],
        batch_size=8,
        devices=ONE_DEVICE,
    )
    assert result.success.all()
    assert (result.found_norm == 0).all()


@pytest.mark.usefixtures("optimised")
def test_refilled_and_looped_searches_give_the_same_rows() -> None:
    attack = Nearest(patience=4)
    options: dict[str, Any] = {"attack": attack, "epsilons": [0.2, np.inf]}
    one = search(**options)
    assert len(np.unique(one.steps)) > 1
    for other in (search(refill=False, **options), search(loop="device", **options)):
        np.testing.assert_array_equal(other.x_adv, one.x_adv)
        np.testing.assert_array_equal(other.steps, one.steps)
        np.testing.assert_array_equal(other.success, one.success)


def test_time_and_rows_of_a_search_are_shared_by_its_budgets() -> None:
    seen, total = [], 0.0
    victim, x = small_victims.small_victim("linear"), small_victims.waveforms(COUNT)
    labels = small_victims.labels(COUNT)
    for block in attack_rows(
        victim, x, labels, Nearest(), [0.1, 0.2, np.inf], batch_size=8, devices=ONE_DEVICE
    ):
        seen += list(zip(block.utterance.tolist(), block.epsilon_index.tolist(), strict=True))
        assert len(np.unique(block.seconds)) == 1
        total += block.seconds.sum()
    assert sorted(seen) == [(u, e) for u in range(COUNT) for e in range(3)]
    assert block.throughput.seconds == pytest.approx(total)


# --- dB ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["snr_peak", "snr_power"])
def test_an_snr_bounds_every_utterance_by_its_own_loudness(unit: Any) -> None:
    x = small_victims.waveforms(6) * np.array([[1.0], [0.5], [0.1], [0.03], [0.3], [0.01]])
    result = run_attack(
        small_victims.small_victim("conv"),
        x,
        None,
        FGSM(),
        [20.0, 0.0, -6.0],
        epsilon_unit=unit,
        batch_size=6,
        devices=ONE_DEVICE,
    )
    assert result.epsilon_unit == unit
    own = np.abs(x).max(axis=1) if unit == "snr_peak" else np.sqrt(np.square(x).mean(axis=1))
    for e, decibels in enumerate((20.0, 0.0, -6.0)):
        expected = own * 10 ** (-decibels / 20)
        np.testing.assert_allclose(result.epsilon_amplitude[e], expected, rtol=1e-5)
        np.testing.assert_allclose(result.measures["linf"][e], expected, rtol=1e-3)
        # FGSM moves every sample by ε, so that the power SNR is the one asked for, too.
        np.testing.assert_allclose(result.measures[unit][e], decibels, atol=0.05)


def test_a_power_snr_of_an_l2_attack_is_met() -> None:
    result = run_attack(
        small_victims.small_victim("conv"),
        small_victims.waveforms(6),
        None,
        PGD(steps=4, norm="l2", step_size=100.0),
        [15.0],
        epsilon_unit="snr_power",
        batch_size=6,
        devices=ONE_DEVICE,
    )
    np.testing.assert_allclose(result.measures["snr_power"], 15.0, atol=0.01)


def test_searches_are_thresholded_in_decibels_too() -> None:
    away, x = distances(), small_victims.waveforms(COUNT)
    snr = 20 * np.log10(np.linalg.norm(x, axis=1) / (1.0001 * away))
    asked = float(np.median(snr))
    result = search(epsilons=[asked], epsilon_unit="snr_power")
    np.testing.assert_array_equal(result.success[0], snr >= asked)


def test_a_silent_utterance_is_named() -> None:
    x = small_victims.waveforms(3)
    x[1] = 0.0
    with pytest.raises(InputError, match="utterance b is silent"):
        run_attack(
            small_victims.small_victim("conv"),
            x,
            [0, 1, 2],
            FGSM(),
            [20.0],
            epsilon_unit="snr_peak",
            ids=["a", "b", "c"],
            batch_size=3,
            devices=ONE_DEVICE,
        )
    with pytest.raises(InputError, match=r"waveforms\[7\] is silent"):
        amplitudes(Source(np.zeros((9, 4), np.float32), np.array([7])), [1.0], "snr_power", "l2")


@dataclasses.dataclass(frozen=True)
class Bounding(FGSM):
    """FGSM that says it bounds another norm."""

    norm: Norm = "l0"

    @property
    def epsilon_norm(self) -> Norm:
        return self.norm


@pytest.mark.parametrize(
    ("attack", "epsilons", "unit", "words"),
    [
        (PGD(norm="l2"), [20.0], "snr_peak", "peak SNR does not bound the l2 norm"),
        (Bounding(norm="l0"), [20.0], "snr_power", "cannot bound the l0 norm"),
        (Bounding(norm="l1"), [20.0], "snr_peak", "cannot bound the l1 norm"),
        (FGSM(), [np.inf], "snr_peak", "must be finite"),
        (FGSM(), [np.nan], "snr_power", "must be finite"),
        (FGSM(), [20.0], "decibel", "no unit 'decibel'"),
        (FGSM(), [np.inf], "amplitude", "positive and finite"),
        (Nearest(), [0.0], "amplitude", "positive, not 0"),
        (SparseFool(), [10.0, 0.05], "amplitude", "number of samples .* amplitude=0.05"),
        (Nearest(), [np.nan], "amplitude", "positive, not nan"),
        (Nearest(), [-np.inf], "snr_power", "must be finite"),
    ],
)
def test_budgets_that_make_no_sense(attack: Any, epsilons: Any, unit: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        run_attack(
            small_victims.small_victim("linear"),
            small_victims.waveforms(2),
            [0, 1],
            attack,
            epsilons,
            epsilon_unit=unit,
            batch_size=2,
            devices=ONE_DEVICE,
        )
    assert "\n" not in str(caught.value)

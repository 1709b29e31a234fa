"""One-pixel and few-pixel attacks: what their points stand for, and what brute force finds."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims

from jaxser import models, run_attack
from jaxser.attacks.base import NON_FINITE, LocalFunction, LocalLogits
from jaxser.attacks.cma_es import CovarianceAdaptation
from jaxser.attacks.differential_evolution import DifferentialEvolution
from jaxser.attacks.few_pixel import FewPixel
from jaxser.attacks.one_pixel import OnePixel
from jaxser.models.front_end import WithFrontEnd
from jaxser.runtime.errors import InputError, UsageError
from jaxser.speech.features import Spectrogram
from jaxser.victims.victim import Victim, evaluation_logits

ONE = jax.devices()[:1]


# --- the candidates ------------------------------------------------------------------------------


def candidate(attack: Any, x: np.ndarray, epsilon: float, points: np.ndarray) -> np.ndarray:
    return np.asarray(
        jax.jit(attack.candidate)(
            jnp.asarray(x, jnp.float32),
            jnp.asarray(epsilon, jnp.float32),
            jnp.asarray(points, jnp.float32),
        )
    )


def test_a_point_is_a_position_and_a_value() -> None:
    x = np.linspace(-0.9, 0.9, 10)
    made = candidate(OnePixel(), x, 0.2, np.array([[0.35, 0.75], [1.0, 1.0], [0.0, 0.0]]))
    expected = np.repeat(x[None], 3, axis=0)
    expected[0, 3] += 0.1
    expected[1, 9] = 1.0  # 0.9 + 0.2, cut at the bound
    expected[2, 0] = -1.0
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_the_papers_code_scales_samples() -> None:
    x = np.array([0.5, -0.4, 0.0, 0.25])
    points = np.array([[0.0, 1.0, 0.3, 0.75, 0.6, 0.0]])
    made = candidate(FewPixel(count=3, compat="paper"), x, 0.1, points)
    np.testing.assert_allclose(made[0], [0.5 * 1.1, -0.4 * 1.05, 0.0, 0.25], atol=1e-7)


def test_arts_pixels_take_any_of_256_levels() -> None:
    attack = FewPixel(count=2, compat="art", bounds=(-5.0, 7.0))
    x = np.zeros((4, 3))
    made = candidate(attack, x, np.inf, np.array([[0.3, 0.5, 0.5, 0.99, 0.99, 1.0]]))
    expected = x.copy()
    # ART: int(255 · 0.5) of 255 levels from the lower bound.
    expected[1, 1], expected[3, 2] = -5 + 12 * 127 / 255, 7.0
    np.testing.assert_allclose(made[0], expected, atol=1e-6)
    assert attack.minimal_norm
    assert attack.epsilon_norm == "l0"


def test_an_image_pixel_has_all_its_channels() -> None:
    x = np.zeros((3, 4, 2))
    made = candidate(OnePixel(), x, 0.1, np.array([[0.5, 0.3, 1.0, 0.0]]))
    expected = x.copy()
    expected[1, 1] = [0.1, -0.1]
    np.testing.assert_allclose(made[0], expected, atol=1e-7)


def test_where_pixels_meet_the_last_one_counts() -> None:
    points = np.array([[0.5, 1.0, 0.1, 0.5, 0.55, 0.75]])
    made = candidate(FewPixel(count=3), np.zeros(4), 0.4, points)
    np.testing.assert_allclose(made[0], [0, 0, 0.2, 0], atol=1e-7)


def test_the_threshold_variant_moves_every_sample_or_every_cell() -> None:
    every = FewPixel(variant="threshold")
    points = np.array([[0.0, 0.5, 1.0, 0.75]])
    made = candidate(every, np.zeros(4), 0.2, points)
    np.testing.assert_allclose(made[0], [-0.2, 0.0, 0.2, 0.1], atol=1e-7)
    cells = FewPixel(variant="threshold", cells=2)
    assert cells.dimensions((5,)) == 2
    made = candidate(cells, np.zeros(5), 0.2, np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(made[0], [-0.2, -0.2, -0.2, 0.2, 0.2], atol=1e-7)


# --- the attacks ---------------------------------------------------------------------------------


def test_success_is_what_brute_force_allows() -> None:
    """On a linear victim the best single sample is known."""
    weights = small_victims.linear_weights()
    victim = small_victims.small_victim("linear")
    x = small_victims.waveforms(40, seed=21)
    logits = x @ weights["kernel"] + weights["bias"]
    y = logits.argmax(axis=1)
    attack = OnePixel(population=100, generations=8)

    def reachable(epsilon: float) -> np.ndarray:
        """Whether some sample moved by ±ε changes the prediction."""
        moved = logits[:, None, None, :] + (
            epsilon * np.array([-1.0, 1.0])[None, None, :, None] * weights["kernel"][None, :, None]
        )
        return (moved.argmax(axis=-1) != y[:, None, None]).any(axis=(1, 2))

    for epsilon in (0.2, 0.45):
        result = run_attack(victim, x, y, attack, [epsilon], devices=ONE, batch_size=8)
        success = result.success[0]
        assert 3 < success.sum() < 37
        assert (reachable(epsilon) | ~success).all()
        assert success[reachable(0.9 * epsilon)].all()
        delta = result.x_adv[0] - x
        assert (np.abs(delta) <= epsilon * (1 + 1e-5)).all()
        assert ((delta != 0).sum(axis=1) <= 1).all()
        # A failure has tried everything; a success stopped within the generation.
        assert (result.queries[0][~success] == 1 + 9 * 100).all()
        assert (result.queries[0][success] < 1 + 9 * 100).all()


def test_misclassified_rows_cost_one_query_and_stay() -> None:
    victim = small_victims.small_victim("conv")
    x = small_victims.waveforms(16)
    y = (np.asarray(victim.logits(jnp.asarray(x))).argmax(axis=1) + 1) % 5
    result = run_attack(victim, x, y, OnePixel(), [0.1], devices=ONE, batch_size=16)
    assert (result.queries == 1).all()
    assert result.success.all()
    np.testing.assert_array_equal(result.x_adv[0], x)


def test_the_search_does_not_depend_on_the_size_of_a_forward_pass() -> None:
    """How many candidates share one decides when a success is seen, not what is tried."""
    x = small_victims.waveforms(4)

    def sure(x: jax.Array) -> jax.Array:
        """Always answers class 0, the surer the larger its input."""
        return jnp.stack([10 + x.sum(axis=1), jnp.zeros(x.shape[0])], axis=1)

    settings: dict[str, Any] = {"population": 30, "generations": 2}
    results = [
        run_attack(
            sure,
            x,
            np.zeros(4, int),
            OnePixel(**settings, candidates=n),
            [0.1],
            batch_size=4,
            devices=ONE,
        )
        for n in (7, 30)
    ]
    assert not results[0].success.any()
    assert (np.abs(results[0].x_adv[0] - x).max(axis=1) > 0.09).all()
    np.testing.assert_array_equal(results[0].x_adv, results[1].x_adv)
    assert (results[0].steps == 15).all()
    assert (results[1].steps == 3).all()


# --- local victims -------------------------------------------------------------------------------


def spectrograms() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (10, 58, 34)).astype(np.float32)


def spectrogram_victim() -> Victim:
    """An untrained CNN-LSTM with logits that are centred on the spectrograms."""
    model = models.build("cnn_lstm_m0", num_classes=3)
    x = spectrograms()
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x[:1])
    head = variables["params"]["Dense_0"]
    head["bias"] = -jax.jit(evaluation_logits(model))(variables, x).mean(axis=0)
    return Victim(
        apply=evaluation_logits(model),
        variables=variables,
        labels=("a", "b", "c"),
        input_shape=x.shape[1:],
        bounds=(-12.0, 12.0),
    )


@pytest.mark.long
@pytest.mark.parametrize("compat", [None, "art"])
def test_what_a_victim_knows_of_few_cells_changes_no_row(compat: Any) -> None:
    """The same rows as from forward passes, and rows that do not see each other."""
    victim = spectrogram_victim()
    x = spectrograms()
    attack = FewPixel(count=2, population=24, generations=2, candidates=12, compat=compat)
    epsilon = math.inf if compat == "art" else 4.0

    def attacked(victim: Victim, order: np.ndarray) -> Any:
        names = [f"row {i}" for i in order]
        run = functools.partial(run_attack, devices=ONE, batch_size=4, seed=3, ids=names)
        return run(victim, x[order], None, attack, [epsilon])

    order = np.arange(len(x))
    local = attacked(victim, order)
    # A plain function is not local.
    whole = attacked(dataclasses.replace(victim, apply=lambda v, x: victim.apply(v, x)), order)
    assert 1 < local.success.sum() < 10
    for name in ("success", "queries", "prediction"):
        np.testing.assert_array_equal(getattr(local, name), getattr(whole, name))
    # Where nothing is found, what comes closest may be decided by rounding.
    np.testing.assert_array_equal(local.x_adv[local.success], whole.x_adv[local.success])
    turned = attacked(victim, order[::-1])
    np.testing.assert_array_equal(local.x_adv[0], turned.x_adv[0, ::-1])
    np.testing.assert_array_equal(local.queries[0], turned.queries[0, ::-1])


def encoding_of(attack: Any, victim: Victim) -> Any:
    """What a search keeps of one silent input."""
    x = jnp.zeros((1, *victim.input_shape))
    assert isinstance(victim.apply, LocalFunction)
    logits_fn = LocalLogits(victim.apply, victim.variables)
    keys = jax.random.split(jax.random.key(0), 1)
    init = functools.partial(attack.init, logits_fn)
    return jax.eval_shape(init, keys, x, jnp.zeros(1, int), jnp.ones(1)).encoding


def test_only_what_a_victim_sees_locally_is_asked_for_locally() -> None:
    victim = spectrogram_victim()
    assert encoding_of(OnePixel(), victim) != ()
    # 58 cells of two slices are seen by the same features; all cells move.
    assert encoding_of(FewPixel(count=40), victim) == ()
    assert encoding_of(FewPixel(variant="threshold", cells=3), victim) == ()
    # A waveform is normalised as a whole, and seen through a spectrogram.
    assert not isinstance(evaluation_logits(models.build("emo18", 3)), LocalFunction)
    front_end = Spectrogram(n_mels=34, n_fft=64, win_length=64, hop_length=32, sample_rate=8_000)
    model = WithFrontEnd(front_end, frames=58, network=models.build("cnn_lstm_m0", 3))
    assert model.is_local((58, 34), 1)
    assert not model.is_local((1_856,), 1)


def test_non_finite_logits_are_flagged_and_never_kept() -> None:
    def broken(x: jax.Array) -> jax.Array:
        # NaN as soon as any sample has been raised.
        raised = (x > 0.55).any(axis=1)
        logits = jnp.stack([10 + x.sum(axis=1), jnp.zeros(x.shape[0])], axis=1)
        return jnp.where(raised[:, None], jnp.nan, logits)

    x = np.full((4, 16), 0.5, np.float32)
    attack = OnePixel(population=20, generations=2)
    result = run_attack(broken, x, np.zeros(4, int), attack, [0.2], devices=ONE, batch_size=4)
    assert not result.success.any()
    assert (result.flags & NON_FINITE).all()
    assert np.isfinite(result.x_adv).all()
    assert (result.x_adv <= 0.55).all()


def test_bad_settings_are_refused() -> None:
    for settings in (
        {"optimizer": "pso"},
        {"population": 4},
        {"generations": 0},
        {"scale": (0.5, 2.0)},
        {"recombination": 1.5},
        {"initial": "sobol"},
        {"sigma": 0.0},
        {"compat": "scipy"},
        {"compat": "art", "bounds": None},
        {"count": 0},
        {"variant": "linf"},
        {"variant": "threshold", "compat": "art"},
    ):
        with pytest.raises(UsageError, match="fewpixel: "):
            FewPixel(**settings)
    with pytest.raises(InputError, match="lower count or cells"):
        run_attack(
            small_victims.small_victim("conv"),
            small_victims.waveforms(2),
            [0, 1],
            FewPixel(count=200, optimizer="cma_es"),
            [0.1],
        )


def test_the_strategy_follows_the_fields() -> None:
    attack = OnePixel(population=40, scale=(0.2, 0.3), recombination=0.9, initial="random")
    assert attack.strategy == DifferentialEvolution(40, (0.2, 0.3), 0.9, "random")
    assert FewPixel(optimizer="cma_es", population=9, sigma=0.1).strategy == CovarianceAdaptation(
        9, 0.1
    )

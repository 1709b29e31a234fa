"""STAA-Net's perturbation and losses against closed forms, and its attack through the driver."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_victims import small_victim, waveforms

from benchmarks.generator_attacks import EPSILON, attacked
from jaxser import run_attack
from jaxser.attacks import PGD, StaaNet, from_parameters, parameters
from jaxser.attacks.generator import (
    Generator,
    adversarial_loss,
    location_scores,
    losses_of,
    magnitudes_of,
    quantise,
    soft_mask,
)
from jaxser.attacks.staa_net import shifted
from jaxser.config import TrainConfig, from_mapping, load_yaml
from jaxser.models.wave_unet import WaveUNet
from jaxser.runtime.errors import InputError, UsageError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SAMPLES = 40


def made_by_hand(variables: Any, x: Any, target: Any, epsilon: Any) -> Any:
    """Locations by the sign of x, magnitudes by a parameter and what else is told."""
    scale = variables["scale"] + (0 if target is None else target[:, None])
    scale = scale + (0 if epsilon is None else epsilon[:, None])
    return 10 * x, jnp.broadcast_to(scale, x.shape)


GENERATOR = Generator(
    apply=made_by_hand,
    variables={"scale": jnp.float32(0.5)},
    num_samples=SAMPLES,
    sample_rate=16_000,
    labels=("a", "b", "c"),
    epsilon=(0.05, 0.05),
    name="by hand",
    fingerprint="1234",
)


def speech(rows: int = 6) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (rows, SAMPLES)).astype(np.float32)


def logits(x: jax.Array) -> jax.Array:
    return jnp.stack([x.sum(axis=1), -x.sum(axis=1), x[:, 0]], axis=1)


def test_the_perturbation_is_magnitude_times_mask() -> None:
    x = speech()
    delta = GENERATOR.perturbation(jnp.asarray(x), jnp.full(6, 0.05))
    np.testing.assert_allclose(delta, np.where(x >= 0, 0.05 * np.tanh(0.5), 0), atol=1e-7)
    every = dataclasses.replace(GENERATOR, factorised=False)
    np.testing.assert_allclose(
        every.perturbation(jnp.asarray(x), jnp.full(6, 0.05)), 0.05 * np.tanh(0.5), atol=1e-7
    )


def test_the_mask_is_one_where_the_score_is_half_or_more() -> None:
    """The authors' code; the paper's Eq. 2 has it the other way round."""
    np.testing.assert_array_equal(quantise(jnp.array([[0.0, 0.49, 0.5, 1.0]])), [[0, 0, 1, 1]])
    np.testing.assert_array_equal(quantise(jnp.array([[0.2, 0.7, 0.8]]), 0.75), [[0, 0, 1]])
    np.testing.assert_allclose(location_scores(jnp.array([[0.0, 1.0]])), [[0.5, 0.8807971]])


@pytest.mark.parametrize("kind", ["random", "straight_through"])
def test_the_mask_in_training(kind: Any) -> None:
    d = jnp.linspace(0.05, 0.95, 2000)[None]
    weight = jnp.arange(2000.0)[None]
    mask, pull_back = jax.vjp(lambda d: soft_mask(d, jax.random.key(0), kind), d)
    (gradient,) = pull_back(weight)
    as_it_is = np.asarray(gradient != 0)
    np.testing.assert_allclose(gradient, np.where(as_it_is, weight, 0))
    if kind == "straight_through":
        assert as_it_is[0, 1:].all()
        np.testing.assert_allclose(mask, quantise(d), atol=1e-6)
    else:
        assert 0.45 < as_it_is.mean() < 0.55
        np.testing.assert_allclose(mask[:, 1:], np.where(as_it_is, d, quantise(d))[:, 1:])


def test_magnitudes_stay_within_epsilon() -> None:
    raw, epsilon = jnp.array([[-9.0, 0.01, 9.0]] * 2), jnp.array([0.05, 0.02])
    for kind in ("tanh", "clip"):
        v = magnitudes_of(raw, epsilon, kind)  # type: ignore[arg-type]
        np.testing.assert_allclose(jnp.abs(v).max(axis=1), epsilon, rtol=1e-6)
    np.testing.assert_allclose(magnitudes_of(raw, epsilon, "clip")[:, 1], 0.01)
    np.testing.assert_allclose(
        magnitudes_of(raw, epsilon, "tanh")[:, 1], epsilon * np.tanh(0.01), rtol=1e-6
    )


def test_the_adversarial_loss_is_the_margin_down_to_the_confidence() -> None:
    scores, y = jnp.array([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]]), jnp.array([0, 0])
    np.testing.assert_allclose(adversarial_loss(scores, y, False), [2, 0])
    np.testing.assert_allclose(adversarial_loss(scores, y, False, 4.0), [2, -4])
    np.testing.assert_allclose(adversarial_loss(scores, y, True, 1.0), [-1, 5])


def test_the_losses_of_the_paper_and_of_rows() -> None:
    """Eqs. 3-6 by hand; the mean over rows is the same for a batch that is given twice."""
    v = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    m, d = jnp.array([[1.0, 0.2], [0.0, 0.0]]), jnp.array([[0.9, 0.2], [0.5, 0.1]])
    adversarial = jnp.array([2.0, 1.0])
    batch = losses_of(adversarial, v, m, d, "batch")
    distances = np.array([0.1, 0.2, 0.5, 0.1])
    expected = [3.0, 5.0, 1.2, np.linalg.norm(distances)]
    np.testing.assert_allclose(list(batch.values()), expected, rtol=1e-5)
    row = losses_of(adversarial, v, m, d, "row")
    norms = (np.linalg.norm(distances[:2]) + np.linalg.norm(distances[2:])) / 2
    np.testing.assert_allclose(list(row.values()), [1.5, 2.5, 0.6, norms], rtol=1e-5)
    twice = losses_of(*(jnp.concatenate([a, a]) for a in (adversarial, v, m, d)), "row")
    np.testing.assert_allclose(list(twice.values()), list(row.values()), rtol=1e-6)
    unfactorised = losses_of(adversarial, v, None, None, "row")
    np.testing.assert_allclose(unfactorised["sparsity"], 3.5)
    assert unfactorised["quantisation"] < 1e-5
    gradient = jax.grad(lambda v: losses_of(adversarial, v, m, d, "batch")["magnitude"])
    np.testing.assert_array_equal(gradient(jnp.zeros((2, 2))), 0)


def test_weights_of_rows_and_of_batches() -> None:
    """Eight rows alike: a published weight of an L2 norm is √8 times as heavy by rows."""
    rng = np.random.default_rng(0)
    one = [jnp.asarray(rng.uniform(size=(1, 9)), jnp.float32) for _ in range(3)]
    eight = [jnp.tile(each, (8, 1)) for each in one]
    adversarial = jnp.full(8, 2.0)
    batch, row = (losses_of(adversarial, *eight, kind) for kind in ("batch", "row"))
    for name in ("adversarial", "sparsity"):
        np.testing.assert_allclose(batch[name] / row[name], 8, rtol=1e-5)
    for name in ("magnitude", "quantisation"):
        np.testing.assert_allclose(batch[name] / row[name], 8**0.5, rtol=1e-5)
    # The whole batch's norm, as numpy has it.
    np.testing.assert_allclose(batch["magnitude"], np.linalg.norm(np.asarray(eight[0])), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "share"),
    [("demos", 1.0), ("iemocap", 1.0), ("iemocap_emo18", 0.1), ("emodb", 1.0)],
)
def test_the_papers_weights_are_of_its_losses_and_its_batch(name: str, share: float) -> None:
    """Section 4.3: 1e-3, 1e-4 and 1e-4 in batches of 8; a tenth against Emo18 on IEMOCAP."""
    config = from_mapping(TrainConfig, load_yaml(CONFIGS / f"staa_net_{name}.yaml"), name)
    its = config.generator
    assert (its.reduction, config.training.batch_size, its.gamma) == ("batch", 8, 0.5)
    weights = (its.magnitude_weight, its.sparsity_weight, its.quantisation_weight)
    np.testing.assert_allclose(weights, np.array([1e-3, 1e-4, 1e-4]) * share)


def test_gamma_is_where_a_sample_changes() -> None:
    """d = (tanh(10 x) + 1) / 2 is above 0.9 where x is above arctanh(0.8) / 10."""
    x = jnp.asarray(speech())
    generator = dataclasses.replace(GENERATOR, gamma=0.9)
    changed = np.asarray(generator.perturbation(x, jnp.full(6, 0.05)) != 0)
    np.testing.assert_array_equal(changed, np.asarray(x) >= np.arctanh(0.8) / 10)
    assert changed.sum() < (np.asarray(x) >= 0).sum()


def test_the_authors_code_adds_to_speech_that_is_moved() -> None:
    x = speech()
    generator = dataclasses.replace(GENERATOR, shift=7)
    moved = np.stack([np.pad(row, (7, 0), mode="reflect")[:SAMPLES] for row in x])
    np.testing.assert_array_equal(shifted(jnp.asarray(x), 7), moved)
    attack = StaaNet(generator=generator, compat="paper")
    result = run_attack(logits, x, None, attack, [1e-8, 0.05])
    # Whatever ε is, the change is that of the shift.
    np.testing.assert_allclose(result.x_adv[0], moved, atol=1e-6)
    mask = 0.05 * np.tanh(0.5) * (x >= 0)
    np.testing.assert_allclose(result.x_adv[1], np.clip(moved + mask, -1, 1), atol=1e-6)
    assert result.measures["linf"][0].min() > 0.5
    with pytest.raises(UsageError, match="by hand reflects nothing"):
        StaaNet(generator=GENERATOR, compat="paper")


def test_the_published_network_reflects_6140_samples_before_the_speech() -> None:
    """0.38 s at 16 kHz, whatever the length: half of what valid convolutions lose."""
    for samples in (32_000, 96_000, 139_200):
        assert WaveUNet(num_samples=samples).reflected_before == 6_140
    assert WaveUNet(num_samples=32_000, padding="same").reflected_before == 0


def test_an_attack_in_one_pass_at_every_epsilon() -> None:
    x, y = speech(), np.zeros(6, int)
    result = run_attack(logits, x, y, StaaNet(generator=GENERATOR), [0.01, 0.05, 0.3])
    assert result.queries.max() == result.gradients.max() == 0
    assert result.steps.max() == 1
    for index, epsilon in enumerate((0.01, 0.05, 0.3)):
        expected = np.where(x >= 0, x + epsilon * np.tanh(0.5), x).clip(None, 1)
        np.testing.assert_allclose(result.x_adv[index], expected, atol=1e-6)
        assert result.measures["sparsity"][index].mean() == pytest.approx((x >= 0).mean(), abs=1e-6)
    unclipped = run_attack(logits, x, y, StaaNet(generator=GENERATOR, bounds=None), [0.3])
    assert unclipped.x_adv.max() > 1


def test_other_parameters_are_another_attack() -> None:
    attack = StaaNet(generator=GENERATOR)
    x = speech()
    run_attack(logits, x, None, attack, [0.05])
    moved = attack.with_variables({"scale": jnp.float32(-0.5)})
    assert moved != attack
    delta = run_attack(logits, x, None, moved, [0.05]).x_adv[0] - x
    np.testing.assert_allclose(delta[x >= 0], -0.05 * np.tanh(0.5), atol=1e-6)


def test_a_generator_of_all_targets_is_told_the_class() -> None:
    generator = dataclasses.replace(GENERATOR, target="all")
    x, y = speech(3), np.array([0, 1, 2])
    attack = StaaNet(generator=generator, targeted=True)
    delta = run_attack(logits, x, y, attack, [0.05]).x_adv[0] - x
    for row in range(3):
        np.testing.assert_allclose(delta[row][x[row] >= 0], 0.05 * np.tanh(0.5 + y[row]), atol=1e-6)


def test_a_generator_of_a_range_is_told_epsilon() -> None:
    generator = dataclasses.replace(GENERATOR, epsilon=(0.01, 0.1))
    x = speech(2)
    delta = run_attack(logits, x, None, StaaNet(generator=generator), [0.04]).x_adv[0] - x
    np.testing.assert_allclose(delta[x >= 0], 0.04 * np.tanh(0.54), atol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a trained generator"):
        StaaNet()
    with pytest.raises(UsageError, match="leave the target out"):
        StaaNet(generator=GENERATOR, targeted=True)
    reaches = dataclasses.replace(GENERATOR, target="b")
    with pytest.raises(UsageError, match="trained to reach b"):
        StaaNet(generator=reaches)
    with pytest.raises(InputError, match=r"takes waveforms of shape \[batch, 40\]"):
        run_attack(logits, speech()[:, :-1], None, StaaNet(generator=GENERATOR), [0.05])
    with pytest.raises(UsageError, match="does not take targets"):
        GENERATOR.perturbation(jnp.asarray(speech()), jnp.ones(6), jnp.zeros(6, int))
    with pytest.raises(UsageError, match="say which"):
        dataclasses.replace(GENERATOR, target="all").perturbation(
            jnp.asarray(speech()), jnp.ones(6)
        )


def test_parameters_name_the_generator() -> None:
    attack = from_parameters("staanet", {"generator": GENERATOR, "bounds": None})
    assert parameters(attack) == {
        "targeted": False,
        "bounds": None,
        "generator": "by hand 1234",
        "compat": None,
    }


def test_the_benchmark_attacks_as_the_driver_does() -> None:
    victim = small_victim("conv")
    x = waveforms(4)
    attack = PGD(steps=5, random_start=False)
    made = attacked(attack, victim.logits, jnp.asarray(x))
    result = run_attack(victim, x, [0] * 4, attack, [EPSILON])
    np.testing.assert_allclose(made, result.x_adv[0], atol=1e-6)
    assert np.abs(made - x).max() == pytest.approx(EPSILON, rel=1e-4)

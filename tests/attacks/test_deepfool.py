"""DeepFool against the closed form on a linear victim, a box, torchattacks and ART."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks.base import ZERO_GRADIENT
from jaxser.attacks.deepfool import DeepFool
from jaxser.runtime.errors import UsageError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "minimal_norm.npz"
ONE_DEVICE = {"devices": jax.devices()[:1]}
ANY_SIZE = [float("inf")]
NORMS = {"l2": 2, "linf": np.inf}


def nearest_boundary(victim: Any, x: np.ndarray, norm: str) -> np.ndarray:
    """Distance of each row to the nearest boundary of a linear victim without bounds."""
    kernel = np.asarray(victim.variables["kernel"], np.float64)
    logits = x.astype(np.float64) @ kernel + np.asarray(victim.variables["bias"])
    label = logits.argmax(axis=1)
    distances = []
    for row, y in enumerate(label):
        others = np.delete(np.arange(kernel.shape[1]), y)
        differences = kernel[:, others] - kernel[:, [y]]
        dual = np.linalg.norm(differences, {"l2": 2, "linf": 1}[norm], axis=0)
        distances.append(((logits[row, y] - logits[row, others]) / dual).min())
    return np.array(distances)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("classes", [2, 5])
def test_one_step_reaches_the_nearest_boundary(norm: Any, classes: int) -> None:
    victim, x = small_victims.small_victim("linear", classes=classes), small_victims.waveforms(16)
    attack = DeepFool(norm=norm)
    result = run_attack(victim, x, None, attack, ANY_SIZE, **ONE_DEVICE)
    assert result.success.all()
    found = np.linalg.norm(result.x_adv[0] - x, NORMS[norm], axis=1)
    np.testing.assert_allclose(found, 1.02 * nearest_boundary(victim, x, norm), rtol=5e-4)
    np.testing.assert_array_equal(result.steps[0], 1)
    np.testing.assert_array_equal(result.queries[0], 2)
    np.testing.assert_array_equal(result.gradients[0], classes - 1)


def test_no_overshoot_stops_at_the_boundary_itself() -> None:
    victim, x = small_victims.small_victim("linear"), small_victims.waveforms(16)
    result = run_attack(victim, x, None, DeepFool(overshoot=0.0), ANY_SIZE, **ONE_DEVICE)
    found = np.linalg.norm(result.x_adv[0] - x, axis=1)
    np.testing.assert_allclose(found, nearest_boundary(victim, x, "l2"), rtol=1e-3)


def smallest_in_box(w: np.ndarray, margin: float, x: np.ndarray, norm: str, bound: float) -> float:
    """Smallest perturbation with ``w @ delta >= margin`` inside the bounds, by bisection."""
    room = np.where(w > 0, bound - x, x + bound)
    speed = np.abs(w) if norm == "l2" else np.ones_like(w)
    low, high = 0.0, 1e3
    for _ in range(100):
        middle = (low + high) / 2
        covered = (np.abs(w) * np.minimum(middle * speed, room)).sum() >= margin
        low, high = (low, middle) if covered else (middle, high)
    return float(np.linalg.norm(np.minimum(high * speed, room), NORMS[norm]))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_bounds_cost_a_few_steps_and_little_distance(norm: Any) -> None:
    """Full-scale inputs: half of the samples cannot move the way the step wants them to."""
    weights = small_victims.linear_weights(classes=2)
    w = weights["kernel"][:, 1] - weights["kernel"][:, 0]
    x = np.sign(small_victims.waveforms(40)) * 0.9
    x[:, ::2] = x[:, ::2] / 0.9
    logits = x @ weights["kernel"] + weights["bias"]
    label = logits.argmax(axis=1)
    reachable = (np.abs(w) * 0.9).sum() > 1.5 * np.abs(logits[:, 1] - logits[:, 0])
    x, logits, label = x[reachable], logits[reachable], label[reachable]
    assert len(x) > 20
    attack = DeepFool(norm=norm, overshoot=0.0)
    victim = small_victims.small_victim("linear", classes=2)
    result = run_attack(victim, x, None, attack, ANY_SIZE, **ONE_DEVICE)
    # Also without overshoot a row ends where another batch sees it on the same side.
    assert result.success.all()
    assert np.abs(result.x_adv).max() <= 1
    assert result.steps.max() <= 6
    found = np.linalg.norm(result.x_adv[0] - x, NORMS[norm], axis=1)
    for row, y in enumerate(label):
        direction = w if y == 0 else -w
        margin = abs(float(logits[row, 1] - logits[row, 0]))
        best = smallest_in_box(direction, margin, x[row], norm, 1.0)
        # It goes on to where rounding cannot take it back.
        safe = margin + 1e-5 * float(np.abs(logits[row]).max())
        assert best * 0.999 <= found[row]
        assert found[row] <= 1.1 * smallest_in_box(direction, safe, x[row], norm, 1.0)


def test_an_input_between_two_classes_moves() -> None:
    def tied(x: jax.Array) -> jax.Array:
        return jnp.stack([5.0 + 0 * x[:, 0], 5.0 + x[:, 0], x[:, 1]], axis=1)

    x = np.zeros((2, 4), np.float32)
    result = run_attack(tied, x, np.zeros(2, int), DeepFool(), ANY_SIZE, **ONE_DEVICE)
    assert result.success.all()
    assert (np.abs(result.x_adv) < 1e-4).all()


def test_several_steps_on_a_curved_victim_and_a_step_limit() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(32, seed=11)
    full = run_attack(victim, x, None, DeepFool(), ANY_SIZE, **ONE_DEVICE)
    assert full.success.all()
    assert full.steps.min() == 1 < full.steps.max()
    once = run_attack(victim, x, None, DeepFool(steps=1), ANY_SIZE, **ONE_DEVICE)
    early = full.steps[0] == 1
    np.testing.assert_array_equal(once.success[0], early)
    np.testing.assert_allclose(once.x_adv[0, early], full.x_adv[0, early], atol=1e-6)
    # What is not adversarial is not handed out.
    np.testing.assert_array_equal(once.x_adv[0, ~early], x[~early])


def test_candidates_are_the_likeliest_classes() -> None:
    """A near boundary with an unlikely class is not seen among two candidates."""
    kernel = np.array([[0.0, 1.0, 100.0], [0.0, 0.0, 0.0]], np.float32)
    bias = np.array([3.0, 2.0, 0.0], np.float32)

    def victim(x: jax.Array) -> jax.Array:
        return x @ kernel + bias[None]

    x, y = np.zeros((1, 2), np.float32), np.zeros(1, int)
    settings = {"bounds": None, "overshoot": 0.0}
    every = run_attack(victim, x, y, DeepFool(**settings), ANY_SIZE, **ONE_DEVICE)
    two = run_attack(victim, x, y, DeepFool(candidates=2, **settings), ANY_SIZE, **ONE_DEVICE)
    np.testing.assert_allclose(every.x_adv[0, 0, 0], 0.03, rtol=1e-3)
    np.testing.assert_allclose(two.x_adv[0, 0, 0], 1.0, rtol=1e-3)
    assert (every.gradients, two.gradients) == (2, 1)


def test_a_flat_class_is_left_out_and_a_flat_victim_is_flagged() -> None:
    def flat_class(x: jax.Array) -> jax.Array:
        return jnp.stack([1 + 0 * x[:, 0], 0.99 + 0 * x[:, 0], x.sum(axis=1)], axis=1)

    x = np.zeros((2, 4), np.float32)
    result = run_attack(flat_class, x, None, DeepFool(), ANY_SIZE, **ONE_DEVICE)
    np.testing.assert_array_equal(result.prediction, 2)
    assert not result.flags.any()

    def flat_victim(x: jax.Array) -> jax.Array:
        return flat_class(0 * x)

    result = run_attack(flat_victim, x, None, DeepFool(), ANY_SIZE, **ONE_DEVICE)
    assert (result.flags & ZERO_GRADIENT).all()
    assert not result.success.any()
    np.testing.assert_array_equal(result.x_adv[0], x)
    np.testing.assert_array_equal(result.steps, 1)


def test_art_passes_a_linear_boundary_by_the_width_of_the_bounds() -> None:
    victim, x = small_victims.small_victim("linear"), 0.1 * small_victims.waveforms(8)
    result = run_attack(victim, x, None, DeepFool(compat="art"), ANY_SIZE, **ONE_DEVICE)
    found = np.linalg.norm(result.x_adv[0] - x, axis=1)
    np.testing.assert_allclose(found, 2 * nearest_boundary(victim, x, "l2"), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("torchattacks/deepfool", DeepFool(compat="torchattacks", bounds=(0.0, 1.0))),
        ("art/deepfool_10", DeepFool(compat="art")),
        ("art/deepfool_3", DeepFool(compat="art", candidates=3)),
    ],
)
def test_same_adversarial_inputs_as_the_peers(name: str, attack: DeepFool) -> None:
    golden = np.load(GOLDEN)
    victim, x = small_victims.small_victim("conv"), golden["x"]
    logits = victim.logits
    if attack.compat == "torchattacks":
        logits, x = (lambda z: victim.logits(2 * z - 1)), (x + 1) / 2
    result = run_attack(logits, x, golden["y"], attack, ANY_SIZE, **ONE_DEVICE)
    assert result.success.all()
    assert np.abs(golden[name] - x).max() > 0.01  # the peer did perturb
    np.testing.assert_allclose(result.x_adv[0], golden[name], atol=2e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"norm": "l1"}, "norm must be"),
        ({"steps": 0}, "steps must be positive"),
        ({"overshoot": -0.1}, "overshoot must be at least 0"),
        ({"candidates": 1}, "candidates must be at least 2"),
        ({"compat": "foolbox"}, "compat must be"),
        ({"compat": "art", "norm": "linf"}, "is the L2 attack"),
        ({"targeted": True}, "no targeted form"),
    ],
)
def test_hyper_parameters_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        DeepFool(**settings)


def test_defaults_follow_the_peer() -> None:
    assert [DeepFool(compat=c).max_steps for c in (None, "torchattacks", "art")] == [50, 50, 100]
    assert DeepFool(steps=7, compat="art").max_steps == 7

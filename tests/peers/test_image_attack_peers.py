"""Echim et al.'s attacks on small image victims against torchattacks, live, on the same weights."""

import functools
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml
from image_sources import TABLES

from jaxser import run_attack
from jaxser.attacks import BIM, EOTPGD, FGSM, MIFGSM, PGD, Pixle, Square
from jaxser.attacks.base import row_keys
from jaxser.victims.key_tables.entries import from_torch
from scripts.golden_images import module_of, seeded_batch, torch_victim

torch = pytest.importorskip("torch")
torchattacks = pytest.importorskip("torchattacks")
stats = pytest.importorskip("scipy.stats")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SOURCES = ("echim_cnn_lstm", "torchvision_alexnet")
EPSILON = 32 / 255
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "attacks"


def settings_of(name: str) -> dict[str, Any]:
    """The parameters of configs/attacks/benchmark_NAME.yaml."""
    told = yaml.safe_load((CONFIGS / f"benchmark_{name}.yaml").read_text())["parameters"]
    return {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}


@functools.cache
def victims(source: str) -> tuple[Any, Any]:
    """The same small network: logits of NHWC images here, a module for NCHW images there."""
    module = module_of(source)
    twin, state = torch_victim(source, module)
    # Sure of a class, a loss has no gradient in float32.
    (head,) = (key for key in ("emotion_head.weight", "fc2.weight") if key in state)
    scale = np.float32(0.05 if source == "torchvision_alexnet" else 0.3)
    state[head] = state[head] * scale
    twin.load_state_dict({head: torch.from_numpy(state[head]).double()}, strict=False)
    variables = jax.tree.map(jnp.asarray, from_torch(state, TABLES[source](module)))
    return functools.partial(module.apply, variables, train=False), twin.eval()


@functools.cache
def loss_gradient(source: str) -> Any:
    """Of the cross-entropy by the images, here."""
    logits_fn, _ = victims(source)

    def loss(x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(logits_fn(x), y).sum()

    return jax.jit(jax.grad(loss))


def images(source: str, rows: int) -> np.ndarray:
    """In [0, 1], with corners of either end that the bounds cut."""
    x, _ = seeded_batch(module_of(source).image_size, rows)
    x[:, :5, :5], x[:, -5:, -5:] = 0.0, 1.0
    return x


def channels_first(x: np.ndarray) -> Any:
    return torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float64))


def channels_last(x: Any) -> np.ndarray:
    return np.asarray(x.detach().numpy().transpose(0, 2, 3, 1))


def run(logits_fn: Any, attack: Any, x: np.ndarray, y: np.ndarray) -> Any:
    epsilon = 1e6 if isinstance(attack, Pixle) else EPSILON
    return run_attack(
        logits_fn, x, y, attack, [epsilon], batch_size=len(x), devices=jax.devices()[:1]
    )


# Attack -> ours, theirs.
GRADIENT_ATTACKS: dict[str, tuple[Any, Any]] = {
    "fgsm": (FGSM, torchattacks.FGSM),
    "bim": (BIM, torchattacks.BIM),
    "mifgsm": (MIFGSM, torchattacks.MIFGSM),
    "pgd": (PGD, torchattacks.PGD),
    "eotpgd": (EOTPGD, torchattacks.EOTPGD),
}


def theirs(name: str, twin: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, Any]:
    """Perturbation, and the gradient of every step as they are summed up."""
    told = settings_of(name)
    settings: dict[str, Any] = {"eps": EPSILON}
    if told:
        settings |= {"alpha": told["step_size"], "steps": told["steps"]}
    if name in ("pgd", "eotpgd"):
        settings["random_start"] = False
    if name == "eotpgd":
        settings["eot_iter"] = told["samples"]
    if name == "mifgsm":
        settings["decay"] = told["decay"]
    found = []
    grad = torch.autograd.grad

    def recorded(*args: Any, **options: Any) -> Any:
        made = grad(*args, **options)
        found.append(channels_last(made[0]))
        return made

    with mock.patch.object(torch.autograd, "grad", recorded):
        made = GRADIENT_ATTACKS[name][1](twin, **settings)(
            channels_first(x), torch.from_numpy(y).long()
        )
    if name == "eotpgd":
        # A victim without randomness gives the same gradient again.
        found = found[:: told["samples"]]
    return channels_last(made) - x, found


def directions(gradients: list[np.ndarray], decay: float) -> np.ndarray:
    """Signs of all steps ``[step, ...]``, of the momentum where there is a decay."""
    signs, momentum = [], np.zeros_like(gradients[0])
    for gradient in gradients:
        mean = np.abs(gradient).mean(axis=(1, 2, 3), keepdims=True)
        momentum = decay * momentum + gradient / mean
        signs.append(np.sign(momentum))
    return np.stack(signs)


@pytest.mark.parametrize("name", GRADIENT_ATTACKS)
@pytest.mark.parametrize("source", SOURCES)
def test_same_perturbation_where_signs_agree(source: str, name: str) -> None:
    logits_fn, twin = victims(source)
    x = images(source, 8)
    y = np.asarray(logits_fn(x)).argmax(axis=1)
    delta, their_gradients = theirs(name, twin, x, y)

    told = settings_of(name)
    fixed = {"random_start": False} if name in ("pgd", "eotpgd") else {}
    attack = GRADIENT_ATTACKS[name][0](bounds=(0.0, 1.0), **told, **fixed)
    keys, budget = row_keys(jax.random.key(0), jnp.arange(len(x))), jnp.full(len(x), EPSILON)
    state = attack.init(logits_fn, keys, jnp.asarray(x), jnp.asarray(y), budget)
    step = jax.jit(lambda state: attack.step(logits_fn, state))
    steps = told.get("steps", 1)
    assert attack.max_steps == steps
    our_gradients = []
    for _ in range(steps):
        our_gradients.append(np.asarray(loss_gradient(source)(state.x_adv, y)))
        state = step(state)
    ours = np.asarray(state.x_adv) - x
    assert len(their_gradients) == len(our_gradients) == steps
    decay = told.get("decay", 0.0)
    agree = (directions(our_gradients, decay) == directions(their_gradients, decay)).all(axis=0)
    assert agree.mean() > 0.99
    np.testing.assert_allclose(ours[agree], delta[agree], atol=1e-5)
    # Both move: to ε by FGSM, and by the two steps otherwise.
    reach = EPSILON if name == "fgsm" else steps * told["step_size"]
    assert np.abs(delta).max() == pytest.approx(reach, rel=1e-6)
    # The rest is at the bounds, or a pool passes it over.
    assert (delta != 0).mean() > 0.25


def assert_alike(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Of rows where one side alone succeeds, each is as likely as the other (McNemar's test)."""
    share = (ours.mean() + theirs.mean()) / 2
    assert 0.1 < share < 0.9
    only_ours, only_theirs = (ours & ~theirs).sum(), (theirs & ~ours).sum()
    apart = int(only_ours + only_theirs)
    assert apart == 0 or stats.binomtest(int(only_ours), apart).pvalue > 0.01


def success_of(attack: Any, twin: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of their attack, row by row: ``attack(row)`` makes one, with its own random numbers."""
    made = []
    for row in range(len(x)):
        one = slice(row, row + 1)
        made.append(attack(row)(channels_first(x[one]), torch.from_numpy(y[one]).long()))
    with torch.no_grad():
        return twin(torch.cat(made)).numpy().argmax(axis=1) != y


class Surer(torch.nn.Module):
    """The victim with a lead for class 1, so that Square succeeds on some rows only."""

    def __init__(self, twin: Any) -> None:
        super().__init__()
        self.twin = twin

    def forward(self, x: Any) -> Any:
        return self.twin(x) + torch.from_numpy(LEAD)


LEAD = 0.37 * np.eye(5)[1]


def test_square_succeeds_as_often() -> None:
    logits_fn, twin = victims("echim_cnn_lstm")

    def surer(x: Any) -> Any:
        return logits_fn(x) + jnp.asarray(LEAD, jnp.float32)[None]

    x = images("echim_cnn_lstm", 60)
    y = np.asarray(surer(x)).argmax(axis=1)
    told = settings_of("square")
    attack = Square(compat="torchattacks", bounds=(0.0, 1.0), **told)
    found = success_of(
        lambda row: torchattacks.Square(
            Surer(twin).eval(), norm="Linf", eps=EPSILON, n_queries=told["queries"], seed=row
        ),
        Surer(twin),
        x,
        y,
    )
    assert_alike(run(surer, attack, x, y).success[0], found)


def test_pixle_succeeds_as_often() -> None:
    logits_fn, twin = victims("echim_cnn_lstm")
    x = images("echim_cnn_lstm", 100)
    y = np.asarray(logits_fn(x)).argmax(axis=1)
    told = settings_of("pixle")
    attack = Pixle(compat="torchattacks", bounds=(0.0, 1.0), **told)
    np.random.seed(0)  # noqa: NPY002 - torchattacks draws from it
    settings = {key: told[key] for key in ("x_dimensions", "y_dimensions", "restarts")}
    found = success_of(
        lambda row: torchattacks.Pixle(twin, max_iterations=told["iterations"], **settings),
        twin,
        x,
        y,
    )
    assert_alike(run(logits_fn, attack, x, y).success[0], found)

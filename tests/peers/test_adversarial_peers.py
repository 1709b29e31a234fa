"""Steps against an attack beside the same steps in torch, with torchattacks inside; and losses."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from golden_scripts import load_script

from jaxser.attacks import FGSM, PGD
from jaxser.training.adversarial import Defence, adversarial_parts, step_of
from jaxser.training.victim import init_state

torch = pytest.importorskip("torch")
torchattacks = pytest.importorskip("torchattacks")

pytestmark = pytest.mark.peers

SAMPLES, CHANNELS, CLASSES, ROWS, STEPS = 40, 6, 4, 12, 3
EPSILON, RATE, L2 = 0.03, 1e-2, 1e-3


class Small(nn.Module):
    """A convolution, batch norm by PyTorch's numbers, tanh, mean over time, a linear layer."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        # A bias before a batch norm has no gradient but rounding, which Adam would take for one.
        y = nn.Conv(CHANNELS, (5,), padding="VALID", use_bias=False, name="conv")(x[..., None])
        y = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(y)
        return nn.Dense(CLASSES, name="head")(jnp.tanh(y).mean(axis=1))


class Twin(torch.nn.Module):
    """The same on ``[batch, 1, samples]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(1, CHANNELS, 5, bias=False)
        self.norm = torch.nn.BatchNorm1d(CHANNELS)
        self.head = torch.nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.norm(self.conv(x))).mean(dim=2))


def twin_of(variables: dict) -> Twin:
    twin, params, stats = Twin(), variables["params"], variables["batch_stats"]["norm"]
    state = {
        "conv.weight": np.transpose(params["conv"]["kernel"], (2, 1, 0)),
        "norm.weight": params["norm"]["scale"],
        "norm.bias": params["norm"]["bias"],
        "norm.running_mean": stats["mean"],
        "norm.running_var": stats["var"],
        "head.weight": np.transpose(params["head"]["kernel"]),
        "head.bias": params["head"]["bias"],
    }
    state = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    twin.load_state_dict({**state, "norm.num_batches_tracked": torch.tensor(0)})
    return twin


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    return [
        (
            rng.uniform(0, 1, (ROWS, SAMPLES)).astype(np.float32),
            rng.integers(0, CLASSES, ROWS).astype(np.int32),
        )
        for _ in range(STEPS)
    ]


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_steps_are_those_of_torch_with_torchattacks_inside(attack: str, share: float) -> None:
    """FGSM or two steps of PGD on the network in evaluation mode, then Adam with an L2 penalty."""
    model = Small()
    optimizer = optax.chain(optax.add_decayed_weights(L2), optax.adam(RATE))
    state = init_state(model, optimizer, jax.random.key(0), (SAMPLES,), CLASSES)
    twin = twin_of(jax.device_get(state.variables)).train()
    adam = torch.optim.Adam(twin.parameters(), RATE, weight_decay=L2)
    ours = {
        "fgsm": FGSM(bounds=(0.0, 1.0)),
        "pgd": PGD(steps=2, step_size=EPSILON / 2, random_start=False, bounds=(0.0, 1.0)),
    }[attack]
    its = {
        "fgsm": lambda: torchattacks.FGSM(twin, eps=EPSILON),
        "pgd": lambda: torchattacks.PGD(
            twin, eps=EPSILON, alpha=EPSILON / 2, steps=2, random_start=False
        ),
    }[attack]()
    defence = Defence(ours, lambda variables, x: x, share=share)
    step = jax.jit(step_of(adversarial_parts(model, optimizer, jax.random.key(1), defence)))
    losses, first = [], jax.device_get(state.params)
    for x, y in batches():
        state = step(state, {"x": jnp.asarray(x), "y": jnp.asarray(y)}, jnp.full(2, EPSILON))
        images, labels = torch.from_numpy(x)[:, None], torch.from_numpy(y).long()
        chosen = slice(None, None, round(1 / share))
        made = images.clone()
        made[chosen] = its(images[chosen], labels[chosen])
        assert twin.training
        adam.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(made), labels)
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert float(state.metrics.loss) == pytest.approx(sum(losses), rel=1e-5)
    trained = {name: value.detach().numpy() for name, value in twin.named_parameters()}
    ours_now = flax.traverse_util.flatten_dict(jax.device_get(state.params), sep=".")
    names = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    for path, value in ours_now.items():
        layer, _, leaf = path.rpartition(".")
        like = trained[f"{layer}.{names[leaf]}"]
        np.testing.assert_allclose(value, np.transpose(like) if like.ndim > 1 else like, atol=1e-4)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), first, jax.device_get(state.params))
    assert min(jax.tree.leaves(moved)) > 1e-2 / 2  # far more than what the two may be apart


def test_golden_losses_are_those_of_this_torch() -> None:
    script = load_script("golden_robust_losses")
    with np.load(script.OUT) as file:
        for name, value in script.golden().items():
            np.testing.assert_allclose(value, file[name], rtol=1e-6, atol=1e-7)


def test_the_benchmark_compares_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import adversarial

    monkeypatch.setattr(adversarial, "SAMPLES", 2_000)
    tasks = ["clean", "fgsm", "pgd2"]
    found = [*adversarial.measure("emo18", tasks, batch=3, pairs=1, clock="wall")]
    assert [(each.task, each.side) for each in found] == [
        (f"step, {task}", side) for task in tasks for side in ("jaxser", adversarial.PEER)
    ]
    assert max(each.apart for each in found) < 1e-3
    assert [each.cost for each in found[:2]] == [[1.0], [1.0]]
